"""Every page on the synthetic catalogue, run as Streamlit runs it."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from streamlit.testing.v1 import AppTest

import dashboards
from catalog.ids import slug
from catalog.ledger import Ledger
from catalog.repair import repair
from catalog.runs import living_run
from catalog.schemas import RunState, StageState
from catalog.store import TableStore
from dashboards import links
from dashboards.components import canvas, definitions, run_parts

APP = Path(dashboards.__file__).with_name("app.py")
Open = Callable[..., AppTest]


class Locked(BaseHTTPRequestHandler):
    """A server that asks for a key, as Prefect does."""

    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def open_page(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open a page at an address."""

    def go(name: str, **query: str) -> AppTest:
        monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
        return _open(name, query)

    return go


def _open(name: str, query: dict[str, str]) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    if name != "overview":
        app.switch_page(f"views/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def _flat(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for part in node:
            yield from _flat(part)
    elif isinstance(node, dict):
        for part in node.values():
            yield from _flat(part)


def said(app: AppTest) -> str:
    """Every text that the page's own drawings hold."""
    drawn = [json.loads(e.proto.json) for e in app.get("bidi_component") if e.proto.json]
    return "\n".join(_flat(drawn))


@pytest.fixture
def feature(synthetic: ModuleType) -> dict[str, str]:
    """Address of a feature with matches and several explanations."""
    return {"dictionary": synthetic.dictionary_of("pico-a"), "feature": "5"}


@pytest.mark.parametrize("name", links.PAGES)
def test_every_page_draws_without_a_query(open_page: Open, name: str) -> None:
    app = open_page(name)
    assert not app.exception
    assert "could not be drawn" not in said(app)


@pytest.mark.parametrize("name", links.PAGES)
def test_every_page_draws_on_an_empty_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(tmp_path / "nothing"))
    app = _open(name, {})
    assert not app.exception
    assert "could not be drawn" not in said(app)
    if name in ("overview", "browse", "compare", "runs"):
        assert "make demo" in said(app)


def test_overview_tells_models_coverage_and_changes(open_page: Open) -> None:
    text = said(open_page("overview"))
    for expected in (
        "pico-a",
        "pico-b",
        "0.11 (0.31)",
        "FVU without massive",
        "0.29",
        "above chance",
        "new labels",
        "Last run ",
    ):
        assert expected in text


def test_overview_says_where_a_few_tokens_hold_most_of_the_norm(open_page: Open) -> None:
    text = said(open_page("overview"))
    assert (
        "21 of 396\u202f000 tokens, most at position 1 have norms up to 25500 where the median is 168" in text
    )
    assert "53 % of the squared norms" in text
    assert text.count("where the median is") == 1


def test_a_card_shows_the_whole_metric_and_not_one_of_its_forms(open_page: Open) -> None:
    text = said(open_page("overview"))
    assert "16.0" in text
    for form in ("31.0", "0.83", "0.99"):
        assert form not in text, "a quantile, the skip path alone, another ablation"


def test_browse_tells_about_the_chosen_dictionary(open_page: Open, synthetic: ModuleType) -> None:
    app = open_page("browse", dictionary=synthetic.dictionary_of(synthetic.IMPORTED))
    text = said(app)
    for expected in (
        "Import certificate",
        "above 0.5 <b>here</b>",
        "blocks.1.resid_post",
        "absorbed",
    ):
        assert expected in text, expected
    said_of_it = "topk (imported), 160 features, FVU 0.112 (PCA 0.310, random 0.940), L0 16.0, unverified"
    assert any(said_of_it in e.label for e in app.expander)
    assert "Import certificate" not in said(open_page("browse"))


def test_browse_filters_sort_and_pages_live_in_the_address(open_page: Open) -> None:
    app = open_page("browse", q="return line", sort="density", matched="yes")
    assert "7 features" in said(app)
    app.text_input[0].set_value("").run()
    assert dict(app.query_params) == {"sort": "density", "matched": "yes"}
    assert "64 features" in said(app)


def test_browse_turns_pages(open_page: Open) -> None:
    app = open_page("browse", page="7")
    assert "320 features" in said(app)
    assert "301 to 320 shown" in said(app)


def test_browse_says_when_nothing_fits_and_what_comes_nearest(open_page: Open) -> None:
    assert "No feature matches these filters." in said(open_page("browse", q="zebra"))
    text = said(open_page("browse", q="retrun asert"))
    assert "browse?q=return" in text
    assert "Nearest labels" in text
    assert "browse?token=assert" in text


def test_an_alias_that_moved_is_said(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "moved"
    shutil.copytree(catalogue, root)
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    alias = a.rpartition("-")[0]
    pages = {"feature": {"dictionary": alias, "feature": "5"}, "browse": {"dictionary": alias}}
    pages["compare"] = {"a": alias, "b": b}
    for page, query in pages.items():
        assert "is an alias" not in said(_open(page, query))
    synthetic.publish_alias(root, alias, b)
    for page, query in pages.items():
        text = said(_open(page, query))
        assert f"it refers to {b}, before to another dictionary" in text
    assert "is an alias" not in said(_open("feature", {"dictionary": a, "feature": "5"}))


@pytest.mark.parametrize(
    "query", [{"page": "minus"}, {"dictionary": "no/such/dictionary"}, {"density_low": "x"}]
)
def test_a_bad_address_is_one_sentence(open_page: Open, query: dict[str, str]) -> None:
    app = open_page("browse", **query)
    assert not app.exception
    assert next(iter(query.values())) in said(app)


def test_feature_shows_all_its_evidence(
    open_page: Open, feature: dict[str, str], synthetic: ModuleType
) -> None:
    text = said(open_page("feature", **feature))
    for expected in (
        f"{feature['dictionary']}#5",
        "Strongest",
        "Silent, but similar",
        "Activations",
        "random directions reach 0.31",
        "interference",
        "shares documents × 3.4 (contexts × 1.7)",
        "q = 0.030",
        "mutual best",
        "(0.35–0.95)",
        "random direction 0.31",
        "skewness (random 0.31)",
        "62 %",
        "Provenance",
        synthetic.CORPUS,
        "chance 0.51, n = 40",
        "the endpoint declined",
    ):
        assert expected in text, expected


def test_feature_by_alias_is_the_same_feature(open_page: Open, feature: dict[str, str]) -> None:
    alias = feature["dictionary"].rpartition("-")[0]
    assert f"{feature['dictionary']}#5" in said(open_page("feature", dictionary=alias, feature="5"))


def test_next_skips_features_that_never_fired(open_page: Open, feature: dict[str, str]) -> None:
    app = open_page("feature", **{**feature, "feature": "6"})
    drawn = [element.proto for element in app.get("bidi_component")]
    keyboard = next(json.loads(p.json) for p in drawn if p.component_name == "featlas_keyboard")
    assert links.parse(keyboard["j"])[1]["feature"] == "8"
    assert links.parse(keyboard["k"])[1]["feature"] == "5"


def test_a_feature_that_never_fired_says_so(open_page: Open, feature: dict[str, str]) -> None:
    text = said(open_page("feature", **{**feature, "feature": "7"}))
    assert "never fired" in text
    assert "No label yet" in text


def test_an_unknown_feature_is_one_sentence(open_page: Open, feature: dict[str, str]) -> None:
    assert "has no feature 99999" in said(open_page("feature", **{**feature, "feature": "99999"}))


def test_compare_dictionaries(open_page: Open, synthetic: ModuleType) -> None:
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    text = said(open_page("compare", a=a, b=b))
    for expected in (
        "Quality",
        "CE recovered",
        "absorbed",
        "Match rate",
        "same, random",
        "3.1 %",
        "32 mutual matches, 32 with q ≤ 0.05",
        "Strongest matches",
        "Unmatched",
    ):
        assert expected in text


def test_compare_is_the_same_from_both_sides(open_page: Open, synthetic: ModuleType) -> None:
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    assert "32 mutual matches" in said(open_page("compare", a=b, b=a))


def test_partners_that_are_too_unlike_are_not_called_unmatched(
    open_page: Open, synthetic: ModuleType
) -> None:
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    weak = str(synthetic.WEAK)
    assert "mutual best, no clear match" in said(open_page("feature", dictionary=a, feature=weak))
    assert "no clear match" in said(open_page("compare", a=a, b=b))


def test_compare_features_shares_contexts_on_own_scales(open_page: Open, synthetic: ModuleType) -> None:
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    text = said(open_page("compare", a=f"{a}#5", b=f"{b}#8"))
    for expected in ("Shared contexts", "mutual best partners", "same", "Strongest contexts of each"):
        assert expected in text


def test_runs_shows_stages_and_prefect(
    open_page: Open, monkeypatch: pytest.MonkeyPatch, synthetic: ModuleType
) -> None:
    with HTTPServer(("127.0.0.1", 0), Locked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("FEATLAS_PREFECT_UI_URL", f"{address}/")
        text = said(open_page("runs"))
        server.shutdown()
    assert f"{address}/runs/flow-run/{synthetic.RUN}" in text
    assert "mine examples" in text
    monkeypatch.setenv("FEATLAS_PREFECT_UI_URL", "http://127.0.0.1:9")
    silent = said(open_page("runs"))
    assert "no server answers at http://127.0.0.1:9" in silent
    assert "/runs/flow-run/" not in silent
    failed = said(open_page("runs", run=synthetic.RUN_BEFORE))
    assert "the disk <b>was</b> full" in failed


def test_a_run_whose_process_is_gone_is_not_shown_as_running(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "crashed"
    shutil.copytree(catalogue, root)
    synthetic.publish_run(root, "killed at noon", "running", synthetic.NIGHT.replace(day=21))
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    assert "The last run crashed" in said(_open("overview", {}))
    assert "all were already done" not in said(_open("runs", {}))
    with living_run(root, "killed at noon", "nightly"):
        assert "The last run crashed" not in said(_open("overview", {}))


def test_a_crash_stays_on_the_overview_while_a_later_run_goes_on(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "crashed"
    shutil.copytree(catalogue, root)
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    synthetic.publish_run(root, "failed at noon", "failed", synthetic.NIGHT.replace(day=21))
    synthetic.publish_run(root, "going on", "running", synthetic.NIGHT.replace(day=22))
    with living_run(root, "going on", "nightly"):
        assert "The run of 2026-11-21 02:14 UTC failed" in said(_open("overview", {}))
    synthetic.publish_run(root, "going on", "cancelled", synthetic.NIGHT.replace(day=22))
    text = said(_open("overview", {}))
    assert "The run of 2026-11-21 02:14 UTC failed" in text
    assert "cancelled, 2026-11-22 02:14 UTC" in text
    synthetic.publish_run(root, "the next", "completed", synthetic.NIGHT.replace(day=23))
    assert "failed: " not in said(_open("overview", {}))


def test_a_run_shows_the_stage_at_work_and_how_to_repeat_the_one_that_failed(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "going-on"
    shutil.copytree(catalogue, root)
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    synthetic.publish_run(root, "going on", "running", synthetic.NIGHT.replace(day=22))
    ledger, unit = Ledger(root), {"parents": [], "run_id": "going on"}
    with living_run(root, "going on", "nightly"):
        full = "the disk is <b>full</b>"
        with pytest.raises(OSError, match="full"), ledger.claim("mine_examples", 1, "pico-c", {}, **unit):
            raise OSError(full)
        with ledger.claim("train_dictionary", 1, "pico-d", {}, **unit) as claim:
            text = said(_open("runs", {"run": "going on"}))
            claim.tell("steps", 30, 120)
            further = said(_open("runs", {"run": "going on"}))
            claim.commit([], facts={})
        after = said(_open("runs", {"run": "going on"}))
    assert "running for" in text
    assert "pico-d" in text
    assert "25 % of steps, about" in further
    assert f"mine examples of pico-c failed: {full}" in text.replace("OSError: ", "")
    assert f"featlas run demo --stage mine_examples --catalog {root}" in text
    assert "running for" not in after
    assert "train dictionary" in after


def test_every_state_of_a_run_or_stage_has_a_meaning_and_a_look() -> None:
    known = {*get_args(RunState), *get_args(StageState)}
    assert set(definitions.STATES) == known
    for state in ("lost", "cancelled"):
        assert f".badge.{state} {{" in canvas.STYLE
        assert f".lane .span.{state} {{" in canvas.STYLE
        assert f"'badge {state}'" in str(run_parts.state_badge(state))


def test_a_stage_whose_rows_were_damaged_later_is_lost_in_its_run(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(catalogue, root)
    next((root / "features").rglob("*.parquet")).write_bytes(b"no longer Parquet")
    repair(root)
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    text = said(_open("runs", {"run": synthetic.RUN}))
    assert "lost" in text
    assert f"--stage mine_examples --catalog {root}" in text


def test_all_changes_are_there_not_only_the_first(open_page: Open) -> None:
    app = open_page("overview")
    everything = next(e for e in app.expander if e.label.startswith("All "))
    n_changes = int(everything.label.split()[1])
    app.session_state["every-change"] = True
    app.run()
    shown = ""
    for page in range(-(-n_changes // 100)):
        app.query_params["changes"] = str(page + 1)
        shown += said(app.run())
    assert n_changes > 300
    assert sum(shown.count(kind) for kind in ("new label\n", "new match\n", "new dictionary\n")) >= n_changes


def test_the_console_answers_and_keeps_its_answer(open_page: Open) -> None:
    app = open_page("sql")
    app.text_area[0].set_value("SELECT count(*) AS n FROM features")
    app.button[0].click().run()
    assert app.dataframe[0].value["n"].tolist() == [480]
    assert "1 row in" in said(app)


def test_the_console_refuses_in_one_sentence(open_page: Open, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    app = open_page("sql")
    app.text_area[0].set_value(f"COPY (SELECT 1) TO '{target}'")
    app.button[0].click().run()
    assert not app.exception
    assert "the query" in said(app)
    assert not target.exists()


def test_nothing_but_own_markup_reaches_markdown(
    open_page: Open, feature: dict[str, str], synthetic: ModuleType
) -> None:
    """Text of corpora and models is in drawings and code blocks only, never where Markdown is read."""
    for name, query in (
        ("overview", {}),
        ("browse", {}),
        ("feature", feature),
        ("runs", {"run": synthetic.RUN_BEFORE}),
    ):
        app = open_page(name, **query)
        read = [e.value for kind in ("markdown", "caption", "title", "header", "html") for e in app.get(kind)]
        read += [e.label for kind in ("expander", "button", "text_input", "selectbox") for e in app.get(kind)]
        for payload in (*synthetic.PAYLOADS, "<b>"):
            assert not any(payload in str(text) for text in read)


def test_a_publish_shows_without_a_restart(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "growing"
    shutil.copytree(catalogue, root)
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    assert "the night after" not in said(_open("runs", {}))
    synthetic.publish_run(root, "the night after", "completed", synthetic.NIGHT.replace(day=21))
    assert "the night after" in said(_open("runs", {}))


@pytest.mark.parametrize("harm", ["lost", "truncated"])
def test_a_damaged_file_is_said_and_the_rest_still_shows(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(catalogue, root)
    pico_a, pico_b = (synthetic.dictionary_of(model) for model in ("pico-a", "pico-b"))
    (damaged,) = TableStore(root).snapshot().paths("examples", subject=slug(pico_a), feature_block=0)
    if harm == "lost":
        Path(damaged).unlink()
    else:
        Path(damaged).write_bytes(Path(damaged).read_bytes()[:500])
    monkeypatch.setenv("FEATLAS_CATALOG", str(root))
    harmed = said(_open("feature", {"dictionary": pico_a, "feature": "5"}))
    whole = said(_open("feature", {"dictionary": pico_b, "feature": "5"}))
    for text in (harmed, whole):
        assert "1 data file of examples cannot be read" in text
        assert "could not be drawn" not in text
    assert "Logits" in harmed
    assert "Strongest" not in harmed
    assert "Strongest" in whole
