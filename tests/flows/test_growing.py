"""Nights on which a corpus gains documents, against one run over all of them."""

import itertools
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.mining.codes
import tasks.mining.document_firings
import tasks.stages.mine_examples
from catalog.connection import connect
from catalog.faults import ENVIRONMENT
from flows import spine
from flows.config import PipelineConfig
from flows.graph import Stage
from flows.reports import Run
from tasks.support.policies import StageContext
from tests.flows.serverless import tasks_as_functions

HOOKPOINT = "blocks.1.resid_post"
N_DOCUMENTS = (40, 46, 52)
"""In the source, night after night."""
WORDS = ("def", "return", "self", "import", "value", "for", "the", "in", "of", "and", "a", "list", "is", "x")
NEWS = ("12", "Long", "Street", "York", "UK", "7", "Park", "Lane", "Leeds", "31", "High", "Road", "N1")
ENDS: tuple[Stage, ...] = ("mine_examples", "compare_observations")
TABLES = (
    "corpora",
    "documents",
    "activation_sets",
    "sequences",
    "features",
    "examples",
    "document_firings",
    "feature_neighbours",
    "feature_shifts",
    "feature_neighbours",
)


def write_source(folder: Path, n_documents: int) -> Path:
    """The first documents of a fixed list; ids that do not sort in the order of arrival.

    Those of the last night are addresses, the others code.
    """
    rng = np.random.default_rng(0)
    rows = [
        {
            "doc": f"{(7 * i) % 100:02d}",
            "text": " ".join(rng.choice(WORDS if i < N_DOCUMENTS[-2] else NEWS, rng.integers(20, 120))),
        }
        for i in range(max(N_DOCUMENTS))
    ]
    path = folder / "texts.parquet"
    pq.write_table(pa.Table.from_pylist(rows[:n_documents]), path)
    return path


def settings(folder: Path) -> dict[str, Any]:
    """A pipeline file on a corpus that grows."""
    source = {"source": "parquet", "path": str(folder / "texts.parquet"), "text_column": "text"}
    topk = {"architecture": "topk", "d_sae": 64, "k": 4, "n_tokens": 4_000, "seed": 0}
    return {
        "name": "growing",
        "corpus": {**source, "id_column": "doc", "grows": True},
        "models": [{"id": "pico-a", "source": "embedded"}],
        "activations": {
            "hookpoints": [HOOKPOINT],
            "context_length": 64,
            "n_tokens": 20_000,
            "eval_share": 0.25,
            "batch_sequences": 8,
            "shard_mebibytes": 0.1,
        },
        "dictionaries": [topk],
        "mining": {"shard_tokens": 512},
        "compare": {"kind": "growth"},
    }


def night(
    folder: Path, root: Path, n_documents: int, stages: tuple[Stage, ...] = ENDS, n_failures: int = 0
) -> Run:
    write_source(folder, n_documents)
    run = Run("test", "growing", StageContext(root, "run-1", device="cpu"), datetime.now(UTC), "0")
    with tasks_as_functions():
        spine.run_stages(run, PipelineConfig.model_validate(settings(folder)), stages)
    assert len(run.failures) == n_failures
    return run


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run], list[list[int]]]:
    """``nights``: a catalogue that was brought up to date on three nights, the last after a failure.

    ``once``: one with the same dictionary, in which the documents arrived on the same nights, and all that
    follows was done on the last, each pass from the first document. Also the runs of the nights, and the
    sequences that each of them encoded.
    """
    folder = tmp_path_factory.mktemp("grown")
    runs: list[Run] = []
    encoded: list[list[int]] = []
    summed: list[set[int]] = []
    sum_documents = tasks.mining.document_firings._runs_of
    write_codes = tasks.mining.codes._write_shard

    def spied(path: Path, rows: np.ndarray, *others: Any) -> None:
        encoded[-1].extend(rows.tolist())
        write_codes(path, rows, *others)

    def summing(shard: Any, *others: Any) -> Any:
        if len(others) == 4:  # not for the forecast
            summed[-1].add(shard.first_sequence)
        return sum_documents(shard, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.mining.codes, "_write_shard", spied)
        patch.setattr(tasks.mining.document_firings, "_runs_of", summing)
        night(folder, folder / "nights", N_DOCUMENTS[0], ("train_dictionary",))
        shutil.copytree(folder / "nights", folder / "once")
        for n in N_DOCUMENTS:
            encoded.append([])
            summed.append(set())
            if n == N_DOCUMENTS[-1]:
                patch.setenv(ENVIRONMENT, "cache.together:1:raise")
                night(folder, folder / "nights", n, n_failures=1)
                patch.delenv(ENVIRONMENT)
            runs.append(night(folder, folder / "nights", n))
            night(folder, folder / "once", n, ("load_corpus",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.stages.mine_examples, "continued_mining", lambda *_: None)
        night(folder, folder / "once", N_DOCUMENTS[-1])
    firsts = [min(places) for places in summed]
    assert firsts == [night[0] for night in encoded], "only new documents are summed"
    return folder, runs, encoded


def rows_of(root: Path, table: str, corpus_ids: set[str]) -> list[str]:
    """The rows about the first corpus and the last, without times."""
    with connect(root) as connection:
        columns = [row[0] for row in connection.execute(f"describe {table}").fetchall()]
        kept = ", ".join(name for name in columns if name != "created_at")
        sets = connection.execute("select activation_set_id, corpus_id from activation_sets").fetchall()
        by = next(name for name in ("activation_set_id", "set_b", "corpus_id") if name in columns)
        names = {s for s, corpus in sets if corpus in corpus_ids} if by != "corpus_id" else corpus_ids
        listed = ", ".join(f"'{name}'" for name in sorted(names))
        rows = connection.execute(f"select {kept} from {table} where {by} in ({listed})").fetchall()
    return sorted(map(repr, rows))


@pytest.mark.parametrize("table", TABLES)
def test_nights_end_as_one_run_over_all_documents(
    grown: tuple[Path, list[Run], list[list[int]]], table: str
) -> None:
    folder, runs, _ = grown
    corpora = [runs[n].outcomes[0][1].facts["corpus_id"] for n in (0, 2)]
    assert len(set(corpora)) == 2
    nights, once = (rows_of(folder / name, table, set(corpora)) for name in ("nights", "once"))
    assert len(once) > 1
    assert nights == once


def test_only_new_documents_are_encoded(grown: tuple[Path, list[Run], list[list[int]]]) -> None:
    folder, _, encoded = grown
    with connect(folder / "nights") as connection:
        sizes = connection.execute("select n_sequences from activation_sets order by 1").fetchall()
    ends = [0, *(size for (size,) in sizes)]
    assert encoded == [list(range(*pair)) for pair in itertools.pairwise(ends)]


def test_a_night_without_news_computes_nothing(grown: tuple[Path, list[Run], list[list[int]]]) -> None:
    folder, *_ = grown
    again = night(folder, folder / "nights", N_DOCUMENTS[-1])
    assert {outcome.recomputed for _, outcome in again.outcomes} == {False}


def test_what_the_last_night_added_is_found(grown: tuple[Path, list[Run], list[list[int]]]) -> None:
    folder, runs, _ = grown
    assert "skipped" not in runs[0].summary()
    with connect(folder / "nights") as connection:
        rows = connection.execute(
            """select comparison, n_documents_a, n_documents_b, effect, q_value, n_firing_a, n_firing_b
               from feature_shifts where kind = 'growth' order by n_documents_a, q_value"""
        ).fetchall()
    assert {row[:3] for row in rows} == {
        ("growth: earlier | newest", 40, 6),
        ("growth: earlier | newest", 46, 6),
    }
    more_code, addresses = ([row for row in rows if row[1] == n] for n in (40, 46))
    assert max(row[3] for row in addresses if row[4] < 1e-4) > 3
    assert sum(row[4] <= 0.05 for row in more_code) <= 0.05 * len(more_code)
