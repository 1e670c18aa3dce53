"""Pipeline files: every one loads, every mistake is one sentence that names what is known."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from catalog.errors import UserError
from flows.boundary import one_line
from flows.config import PIPELINES, PipelineConfig, load_pipeline, pipeline_names
from flows.overrides import set_value
from tests.searching import examples


@pytest.mark.parametrize("name", pipeline_names())
def test_every_pipeline_loads_under_the_stem_of_its_file(name: str) -> None:
    assert load_pipeline(name).name == name


def test_a_pipeline_survives_the_way_through_json() -> None:
    config = load_pipeline("demo")
    assert PipelineConfig.model_validate(config.canonical()) == config


def test_every_field_has_a_help_text() -> None:
    assert [name for name, field in PipelineConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("dictionaries.0.kk=3", ["dictionaries.0", "'kk'", "known: architecture"]),
        ("dictionaries.0.architecture=mine", ["unknown architecture 'mine'", "topk"]),
        ("corpus.source=web", ["unknown corpus source 'web'", "stdlib"]),
        ("explain.explainer=oracle", ["unknown explainer 'oracle'", "lexical"]),
        ("score.0.scorer=dice", ["unknown scorer 'dice'", "predicate"]),
        ("evaluate.suite=guess", ["unknown suite 'guess'", "sparse_probing"]),
        ("evaluate=[{suite: sparse_probing}]", ["evaluate.0", "label", "is missing"]),
        ("evaluate=[{suite: first_letter}, {suite: first_letter}]", ["suite 'first_letter' is listed twice"]),
        ("match.0.matcher=eye", ["unknown matcher 'eye'", "activation_correlation"]),
        ("colour=blue", ["'colour'", "known: name, description"]),
        ("models.0.source=web", ["models.0.source", "'embedded'"]),
        ("models.1.id=pico-a", ["model 'pico-a' is listed twice"]),
        ("activations.context_length=", ["activations.context_length"]),
        ("schedule.cron=1 2", ["cron '1 2' needs five fields"]),
        ("schedule.timezone=Europe/Berlin", ["schedule.timezone", "'UTC'"]),
        ("name=other", ["'other' must be the stem of the file"]),
        ("dictionaries.7.k=3", ["there is no 'dictionaries.7'"]),
        ("nonsense", ["path=value"]),
    ],
)
def test_a_mistake_is_one_sentence(override: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_pipeline("demo", [override])
    message = str(caught.value)
    assert [fragment for fragment in fragments if fragment not in message] == []
    assert "\n" not in message


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    values = yaml.safe_load((PIPELINES / "demo.yaml").read_text())
    del values["models"]
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"models: is missing and has no default"):
        load_pipeline(str(tmp_path / "demo.yaml"))


def test_an_unknown_pipeline_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"there is no pipeline 'dmeo': name one of .*demo"):
        load_pipeline("dmeo")


def test_broken_yaml_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [broken")
    with pytest.raises(UserError, match="is not valid YAML") as caught:
        load_pipeline(str(path))
    assert "\n" not in str(caught.value)


def test_an_override_reads_yaml_and_reaches_into_lists() -> None:
    values = {"dictionaries": [{"k": 1}], "corpus": {}}
    for override in (
        "dictionaries.0.k=16",
        "corpus.path=a b.parquet",
        "corpus.columns=[x, y]",
        "new.deep=1e-3",
    ):
        set_value(values, override)
    assert values == {
        "dictionaries": [{"k": 16}],
        "corpus": {"path": "a b.parquet", "columns": ["x", "y"]},
        "new": {"deep": 0.001},
    }


def test_a_model_names_its_own_hookpoints() -> None:
    config = load_pipeline("demo", ["models.0.hookpoints=[blocks.1.resid_post]"])
    assert config.activations.for_model(config.models[0]).hookpoints == ("blocks.1.resid_post",)


def test_one_explainer_may_be_written_without_a_list() -> None:
    config = load_pipeline("demo", ["explain={explainer: lexical}"])
    assert [explainer.explainer for explainer in config.explain] == ["lexical"]


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("1 2", "needs five fields"),
        ("0 2 * * * *", "needs five fields"),
        ("0 25 * * *", "'0 25 \\* \\* \\*'"),
        ("a b c d e", "'a b c d e'"),
        ("*/0 * * * *", "'\\*/0 \\* \\* \\* \\*'"),
        ("0 0 32 * *", "32"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("0 0 31 4,6 *", "Bad day-of-month"),
        ("5-1 * * * *", "5-1"),
    ],
)
def test_a_schedule_that_cannot_come_due_is_refused(cron: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_pipeline("demo", [f"schedule={{cron: '{cron}'}}"])


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/15 8-18 * * MON-FRI", "0 0 29 2 *", "30 4 1,15 * *"])
def test_a_schedule_that_comes_due_is_taken(cron: str) -> None:
    schedule = load_pipeline("demo", [f"schedule={{cron: '{cron}'}}"]).schedule
    assert schedule is not None
    assert schedule.cron == cron


def test_a_section_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text((PIPELINES / "demo.yaml").read_text() + "\nscore:\n  - {scorer: predicate, seed: 7}\n")
    with pytest.raises(UserError, match=r"line \d+ writes 'score' a second time"):
        load_pipeline(str(path))


KEYS = st.sampled_from(
    ["dictionaries", "models", "corpus", "score", "name", "schedule", "0", "-1", "1_0", "٣", "[0]"]
)
KEYS |= st.sampled_from(["dictionaries[0]", "", " ", "k", "path", "9" * 5_000, "a" * 300, "\x00", "\ud800"])
VALUES = st.sampled_from(
    ["1", "2024-13-45", "[[", "[" * 2_000, "{[1]: 2}", "9" * 5_000, "!!set {a}", "&a [*a]", "1e999"]
)
VALUES |= st.sampled_from(["true", "", "{a: 1, a: 2}", "!!int ''", "[/red]", "\x1b[31m"]) | st.text(
    max_size=20
)
overrides = st.builds(lambda keys, value: ".".join(keys) + "=" + value, st.lists(KEYS, max_size=4), VALUES)


def told(pipeline: str, changes: list[str]) -> str:
    """What the user is told; a dot where the pipeline is read."""
    try:
        load_pipeline(pipeline, changes)
    except UserError as error:
        return one_line(error)
    return "."


@given(changes=st.lists(overrides | st.text(max_size=20), max_size=3))
@example(changes=["dictionaries.0=&a [*a]"])
@example(changes=["schedule.cron=2024-13-45"])
@settings(max_examples=examples(150), deadline=None)
def test_any_override_is_taken_or_one_sentence(changes: list[str]) -> None:
    assert len(told("demo", changes).splitlines()) == 1


@given(
    place=st.lists(st.integers(0, 6), max_size=4),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)
@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_value_anywhere_in_a_pipeline_is_taken_or_one_sentence(
    place: list[int], value: object, tmp_path: Path
) -> None:
    values = yaml.safe_load((PIPELINES / "demo.yaml").read_text())
    target = values
    for step in place:
        names = list(target) if isinstance(target, dict) else list(range(len(target)))
        if not names or not isinstance(target[names[step % len(names)]], dict | list):
            break
        target = target[names[step % len(names)]]
    names = list(target) if isinstance(target, dict) else list(range(len(target)))
    target[names[len(place) % len(names)]] = value
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(values))
    assert len(told(str(path), []).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".yaml", "nul\x00.yaml", "none.yaml", "a\nb.yaml", "/", "[a].yaml"]
)
def test_a_pipeline_path_that_cannot_be_is_one_sentence(name: str) -> None:
    assert "there is no pipeline" in told(name, [])
