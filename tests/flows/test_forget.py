"""A forgotten document: no file holds it, the rest stays sound, and a kill leaves nothing half done."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalog.connection import connect
from catalog.errors import UserError
from catalog.rows import rows_of
from catalog.runs import living_run
from catalog.store import SliceWrite, TableStore, publish_rows
from flows.config import PipelineConfig
from flows.forgetting import find_document, forget
from tasks.activations.caching.cache import open_intact
from tasks.autointerp.prompt_cache import PromptCache
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.support.endpoint import CACHE_FOLDER
from tasks.support.policies import StageContext
from tasks.support.stored import forgotten_documents
from tests.flows.forgotten import (
    SECRET,
    UNIQUE,
    Traces,
    corpus,
    featlas,
    forgetter,
    found_in,
    name_a_word,
    pipeline,
    sound,
    traces_of,
    walk,
)
from tests.flows.serverless import tasks_as_functions

KILLED = -9
MOMENTS = ("folder.rename:1", "delta.commit:3", "forget.sweep:1")
MORE_MOMENTS = (
    "forget.shard:1",
    "shard.index.rename:1",
    "parquet.rename:1",
    "parquet.rename:6",
    "note.rename:1",
    "snapshot.link:1",
    "newest.rename:1",
    "forget.sweep:5",
)
"""Before anything, between any two of: sets, data, note, folders, logs, the one commit, what is deleted."""


@pytest.fixture(scope="module", autouse=True)
def without_prefect() -> Iterator[None]:
    with tasks_as_functions():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PipelineConfig]:
    """A catalogue with a dictionary, its examples, labels and scores."""
    folder = tmp_path_factory.mktemp("forget")
    config = pipeline(folder)
    walk(folder / "catalogue", config)
    name_a_word(folder / "catalogue")
    return folder / "catalogue", config


@pytest.fixture(scope="module")
def traces(made: tuple[Path, PipelineConfig]) -> Traces:
    return traces_of(made[0])


@pytest.fixture(scope="module")
def forgetting() -> Iterator[Callable[[Path, str], int]]:
    with forgetter() as ask:
        yield ask


@pytest.fixture
def root(made: tuple[Path, PipelineConfig], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "catalogue")
    return tmp_path / "catalogue"


def test_no_file_holds_a_forgotten_document(root: Path, traces: Traces) -> None:
    scratch = root / "_scratch" / "killed"
    scratch.mkdir(parents=True)
    (scratch / "journal.jsonl").write_text(UNIQUE)
    before = found_in(root, traces)
    held = {name.split("/")[0] for name in before}
    assert held >= {"documents", "sequences", "examples", "_blobs", "_scratch", "explanations", "features"}
    done = forget(root, find_document(root, "parquet", SECRET), "tester", "asked to")
    assert found_in(root, traces) == {}
    sound(root)
    assert done.counts is not None
    with connect(root) as connection:
        ((by, why, n_examples, n_marked, n_withdrawn),) = connection.execute(
            "select forgotten_by, reason, n_examples, n_explanations, n_withdrawn from forgotten_documents"
        ).fetchall()
        rows = connection.execute(
            "select n_chars, labels, (select count(*) from documents) from documents "
            "where document_id = $name",
            {"name": SECRET},
        ).fetchall()
    assert (by, why) == ("tester", "asked to")
    assert n_examples == done.counts.n_examples > 0
    assert n_marked > n_withdrawn > 0
    assert rows == [(0, {}, 60)]


def test_what_is_left_is_what_was_there(root: Path) -> None:
    """Rows of other documents, statistics and scores do not change, and positions in sequences stay."""
    kept = {
        "documents": f"document_id <> '{SECRET}'",
        "examples": f"document_id <> '{SECRET}'",
        "document_firings": f"document_id <> '{SECRET}'",
        "scores": "true",
        "judgements": "true",
        "dictionary_metrics": "true",
        "dictionaries": "true",
    }
    queries = {name: f"select * from {name} where {where} order by all" for name, where in kept.items()}
    queries["features"] = "select * exclude (top_tokens) from features order by all"
    queries["sequences"] = (
        "select sequence_index, d, t from (select sequence_index, unnest(document_ids) as d, "
        "unnest(token_ids) as t, generate_subscripts(token_ids, 1) as p from sequences) "
        f"where d <> '{SECRET}' order by sequence_index, p"
    )
    with connect(root) as connection:
        before = {name: connection.execute(text).fetchall() for name, text in queries.items()}
    forget(root, find_document(root, "parquet", SECRET), "tester", None)
    with connect(root) as connection:
        for name, text in queries.items():
            assert connection.execute(text).fetchall() == before[name], name
        lengths = "select len(token_ids) = len(valid) and len(valid) = len(document_ids) from sequences"
        assert set(connection.execute(lengths).fetchall()) == {(True,)}


def test_only_marked_labels_are_written_again(root: Path, made: tuple[Path, PipelineConfig]) -> None:
    forget(root, find_document(root, "parquet", SECRET), "tester", None)
    with connect(root) as connection:
        ((n_stale,),) = connection.execute("select count_if(is_stale) from feature_cards").fetchall()
    assert n_stale > 0
    run = walk(root, made[1], "run-2")
    again = [outcome.stage for _, outcome in run.outcomes if outcome.recomputed]
    assert again[0] == "explain_features"
    assert set(again) <= {"explain_features", "score_explanations", "measure_floors"}
    with connect(root) as connection:
        assert connection.execute("select count_if(is_stale) from feature_cards").fetchall() == [(0,)]
        (n_labels,) = connection.execute("select count(label) from feature_cards").fetchone() or (0,)
    assert n_labels > 0
    assert not any(o.recomputed for _, o in walk(root, made[1], "run-3").outcomes)
    sound(root)


def test_answers_about_its_examples_leave_the_cache(root: Path) -> None:
    found = find_document(root, "parquet", SECRET)
    (dictionary_id, set_id, touched) = min(found.evidence.kept)
    untouched = next(n for n in range(64) if (dictionary_id, set_id, n) not in found.evidence.kept)
    now = datetime.now(UTC)
    ids = {"dictionary_id": dictionary_id, "activation_set_id": set_id, "explainer": "contexts"}
    said = {**ids, "prompt_digest": "0", "status": "ok", "text": "words", "created_at": now}
    call = {"purpose": "explain", "endpoint": "judge", "model": "m", "cost_usd": 0.0, "latency_ms": 1.0}
    call |= {"attempts": 1, "outcome": "ok", "cached": False, "created_at": now}
    cache = PromptCache(root / CACHE_FOLDER / "judge")
    for feature, name in ((touched, "gone"), (untouched, "kept")):
        text = {**said, "feature_index": feature, "explanation_id": name, "call_id": name}
        asked = {**call, "call_id": name, "prompt_digest": name}
        slices = [
            SliceWrite("explanations", name, rows_of("explanations", [text])),
            SliceWrite("llm_calls", name, rows_of("llm_calls", [asked])),
        ]
        publish_rows(root, slices, fingerprint=name * 16)
        cache.put(name, {"reply": "words"})
    assert forget(root, find_document(root, "parquet", SECRET), "tester", None).n_answers == 1
    assert (cache.get("gone"), cache.get("kept") is not None) == (None, True)


def test_a_shard_computed_again_holds_the_same_bytes(root: Path) -> None:
    forget(root, find_document(root, "parquet", SECRET), "tester", None)
    with connect(root) as connection:
        (uri,) = connection.execute("select uri from activation_sets").fetchone() or ("",)
    shard = root / uri / "shard-00000.npy"
    content = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(content[:-100] + bytes(100))
    assert open_intact(root / uri, pipeline(root.parent).models[0], "cpu").verify() == []


def test_a_forgotten_document_is_not_read_again(root: Path, made: tuple[Path, PipelineConfig]) -> None:
    forget(root, find_document(root, "parquet", SECRET), "tester", None)
    settings = made[1].corpus
    assert settings is not None
    assert forgotten_documents(root, settings.canonical()).document_ids == {SECRET}
    context = StageContext(root, "run-2", frozenset({"load_corpus"}), device="cpu")
    again = load_corpus.fn(context, CorpusUnit(settings, 0.25))
    assert again.facts["n_documents"] == 59
    moved = settings.model_copy(update={"id_column": None})
    assert load_corpus.fn(context, CorpusUnit(moved, 0.25)).facts["n_documents"] == 59


def test_every_state_of_a_corpus_that_grew_loses_the_document(tmp_path: Path) -> None:
    """Three nights, the document is forgotten before the last; mining then starts from the first document."""
    root = tmp_path / "catalogue"
    for night, n in enumerate((40, 50)):
        config = pipeline(tmp_path, corpus=corpus(tmp_path, n, grows=True))
        walk(root, config, f"run-{night}", ["mine_examples"])
    traces = traces_of(root)
    assert sum("documents/" in name for name in found_in(root, traces)) == 2
    assert list(root.glob("_blobs/activations/*/mined"))
    found = find_document(root, "parquet", SECRET)
    assert (len(found.evidence.corpora), len(found.evidence.sets)) == (2, 2)
    forget(root, found, "tester", None)
    assert found_in(root, traces) == {}
    assert not list(root.glob("_blobs/activations/*/mined"))
    sound(root)
    config = pipeline(tmp_path, corpus=corpus(tmp_path, 60, grows=True))
    run = walk(root, config, "run-3", ["mine_examples"])
    done = [o for _, o in run.outcomes if o.recomputed]
    assert [o.stage for o in done][:2] == ["load_corpus", "cache_activations"]
    assert "mine_examples" in [o.stage for o in done]
    assert done[0].facts["n_documents"] == 60
    assert found_in(root, traces) == {}
    sound(root)


@pytest.mark.parametrize(
    "moment", [*MOMENTS, *(pytest.param(moment, marks=pytest.mark.faults) for moment in MORE_MOMENTS)]
)
def test_a_kill_leaves_all_or_nothing(
    moment: str, root: Path, traces: Traces, forgetting: Callable[[Path, str], int]
) -> None:
    assert forgetting(root, f"{moment}:kill") == KILLED
    with connect(root) as connection:
        ((n_gone, n_examples, n_tokens, n_text),) = connection.execute(
            """select (select count(*) from forgotten_documents),
                (select count(*) from examples where document_id = $name),
                (select sum(len(list_filter(token_ids, lambda t: t < 0))) from sequences),
                (select n_chars from documents where document_id = $name)""",
            {"name": SECRET},
        ).fetchall()
    states = [n_gone == 0, n_examples > 0, n_tokens == 0, n_text > 0]
    assert set(states) in ({True}, {False})
    assert forgetting(root, "") == 0
    assert found_in(root, traces) == {}
    assert TableStore(root).verify() == []
    assert not list((root / "_scratch").glob("*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prose", SECRET], "there is no corpus 'prose'; corpora are parquet-"),
        (["parquet", "doc-999"], "close ids are doc-0"),
        (["parquet", "doc-01"], "may be doc-010, doc-011, doc-012: give more"),
    ],
)
def test_a_wrong_name_is_one_sentence(
    arguments: list[str],
    words: str,
    made: tuple[Path, PipelineConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    version = TableStore(made[0]).snapshot().version
    assert featlas(monkeypatch, "forget", *arguments, "--catalog", str(made[0]), "--yes") == 2
    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert TableStore(made[0]).snapshot().version == version


def test_without_yes_nothing_changes(
    made: tuple[Path, PipelineConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = TableStore(made[0]).snapshot().version
    assert featlas(monkeypatch, "forget", "parquet", SECRET, "--catalog", str(made[0])) == 0
    said = capsys.readouterr().out
    assert "Nothing was changed: run again with --yes" in said
    assert "tokens in 1 activation sets" in said
    assert TableStore(made[0]).snapshot().version == version


def test_a_run_at_work_stands_in_the_way(root: Path) -> None:
    found = find_document(root, "parquet", SECRET)
    version = TableStore(root).snapshot().version
    with living_run(root, "run-9", "nightly of forget"), pytest.raises(UserError, match="is at work"):
        forget(root, found, None, None)
    assert TableStore(root).snapshot().version == version


def test_forgetting_twice_keeps_the_first_record(root: Path) -> None:
    forget(root, find_document(root, "parquet", SECRET), "tester", "first")
    version = TableStore(root).snapshot().version
    again = forget(root, find_document(root, "parquet", SECRET), "other", None)
    assert (again.counts, again.n_deleted) == (None, 0)
    assert find_document(root, "parquet", SECRET).is_gone
    assert TableStore(root).snapshot().version == version
