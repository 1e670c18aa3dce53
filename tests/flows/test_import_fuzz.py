"""Requests that nobody would write, to import, to endpoints and to the catalogue: one sentence each."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from catalog.settings import catalog_settings, catalogue_root
from flows.boundary import one_line
from flows.import_request import ImportRequest, import_request
from flows.preflight import check_import
from tasks.autointerp.endpoint import EndpointProfile, endpoint_names, load_api_key, load_endpoint
from tests.searching import examples

TOPK = Path(__file__).resolve().parents[1] / "golden" / "formats" / "saelens" / "topk"
BOUNDED = settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ODD = st.sampled_from(
    ["", " ", "x" * 300, "nul\x00", "~nobody-of-this-name", "[/red]", "a\nb", "\ud800", "/", ".", "-1"]
)
FIELDS = st.sampled_from(
    ["k", "normalisation", "centre", "threshold", "activation", "decoder", "", "[0]", "k.k"]
)
VALUES = st.sampled_from(
    ["3", "true", "3.0", "'3'", "none", "2024-13-45", "[[", "[" * 500, "9" * 5_000, "-1", "1e999", ".nan"]
)


def request(**changes: object) -> ImportRequest:
    arguments: dict[str, object] = {
        "format": "saelens",
        "path": str(TOPK),
        "pipeline": "demo",
        "model": "pico-a",
    }
    arguments |= {"hookpoint": "", "name": "", "settings": [], "overrides": [], "unsafe_allow_pickle": False}
    return import_request(**{**arguments, **changes})  # type: ignore[arg-type]


def told(ask: Callable[[], object]) -> str:
    """What the user is told; a dot where the request is taken."""
    try:
        ask()
    except UserError as error:
        return one_line(error)
    return "."


@given(settings_=st.lists(st.builds("{}={}".format, FIELDS, VALUES) | st.text(max_size=12), max_size=3))
@example(settings_=["k=true"])
@BOUNDED
def test_any_setting_of_an_import_is_taken_or_one_sentence(settings_: list[str]) -> None:
    assert len(told(lambda: request(settings=settings_)).splitlines()) == 1


@given(
    name=st.sampled_from(["format", "path", "pipeline", "model", "hookpoint", "name"]),
    value=ODD | st.text(max_size=12),
)
@example(name="path", value="x" * 300)
@example(name="pipeline", value="x" * 300 + ".yaml")
@BOUNDED
def test_any_part_of_an_import_is_taken_or_one_sentence(name: str, value: str) -> None:
    assert len(told(lambda: request(**{name: value})).splitlines()) == 1


@pytest.mark.parametrize("setting", ["k=true", "k=3.0", "k='3'", "threshold=true", "threshold=.nan"])
def test_a_setting_of_another_type_is_refused(setting: str) -> None:
    assert told(lambda: request(settings=[setting])) != "."


def test_hookpoints_of_an_import_are_checked_before_anything_runs() -> None:
    check_import(request(hookpoint="blocks.5.resid_post"))
    assert "blocks 0 to 5" in told(lambda: check_import(request(hookpoint="blocks.6.resid_post")))


TOML = st.sampled_from(
    [
        "[endpoints.judge]\n",
        "[endpoints.judge]\n",
        'base_url = "http://localhost/v1"\n',
        'model = "m"\n',
        "concurrency = true\n",
    ]
)
TOML |= st.sampled_from(
    [
        "concurrency = 2.5\n",
        "trusted = 1\n",
        "at = 2024-01-01\n",
        'base_url = "http://[::1"\n',
        "x = [[[\n",
        "\ufeff",
        "endpoints = 3\n",
    ]
)
TOML |= st.sampled_from(
    [f"n = {'9' * 5_000}\n", f"x = {'[' * 3_000}\n", "\x00", 'api_key = "x"\n', "model = 3\n"]
)


@given(
    parts=st.lists(TOML, max_size=6), value=st.sampled_from(["", "x", "true", "3", "[", "\x00", "9" * 5_000])
)
@BOUNDED
def test_any_endpoint_file_and_variable_is_taken_or_one_sentence(
    parts: list[str], value: str, tmp_path: Path
) -> None:
    path = tmp_path / "featlas.toml"
    path.write_text("".join(parts), encoding="utf-8")
    for field in EndpointProfile.model_fields:
        environ = {f"FEATLAS_ENDPOINT_JUDGE_{field.upper()}": value}
        assert len(told(lambda: load_api_key(load_endpoint("judge", environ, path), {})).splitlines()) == 1  # noqa: B023
    assert len(told(lambda: endpoint_names({}, path)).splitlines()) == 1


def test_a_byte_order_mark_before_the_endpoints_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "featlas.toml"
    path.write_text(
        '\ufeff[endpoints.judge]\nbase_url = "http://localhost/v1"\nmodel = "m"\n', encoding="utf-8"
    )
    assert load_endpoint("judge", {}, path).model == "m"


@pytest.mark.parametrize("uri", ["~nobody-of-this-name/x", "nul\x00", "s3://bucket", "a*b", "x" * 5_000])
def test_a_catalogue_that_cannot_be_is_one_sentence(uri: str) -> None:
    assert len(told(lambda: catalogue_root(uri)).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"), [("MEMORY_LIMIT", "much"), ("QUERY_THREADS", "0"), ("QUERY_THREADS", "x")]
)
def test_a_setting_of_the_environment_that_cannot_be_is_one_sentence(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FEATLAS_{name}", value)
    assert f"FEATLAS_{name} is '{value}'" in told(catalog_settings)
