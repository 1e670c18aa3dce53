"""Evidence, journal and runner: halves stay apart, a kill loses nothing, equal input gives equal ids."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from catalog.errors import UserError
from catalog.schemas import SILENT_BANDS
from tasks.autointerp.explainer import EXPLAINERS
from tasks.autointerp.explainers.contexts import ContextsConfig
from tasks.autointerp.explainers.lexical import LexicalConfig
from tasks.autointerp.journal import Journal
from tasks.autointerp.records import n_firing, read_evidence
from tasks.autointerp.rows import schema_of
from tasks.autointerp.runner import explain, score
from tasks.autointerp.scorer import SCORERS
from tasks.autointerp.scorers.predicate import PredicateConfig
from tasks.common.progress import Progress
from tasks.common.registry import Registry
from tests.tasks.autointerp.planted import distinct, features

IDS = {"dictionary_id": "d-00000000", "activation_set_id": "s-00000000"}
TIMES = ["created_at"]


def test_evidence_is_what_the_tables_say() -> None:
    table = distinct(3, n_per_half=2)
    shuffled = table.take(pa.array(range(table.num_rows - 1, -1, -1)))
    evidence = list(read_evidence(features(3), [shuffled], {"d1": {"language": "en"}}))
    assert [e.feature_index for e in evidence] == [0, 1, 2]
    rows = evidence[1].rows("explain", evidence[1].firing_bands)
    example = evidence[1].example(int(rows[0]))
    assert (example.tokens[2], example.activations[2], example.peak_position) == (" feat1", 1.0, 2)
    assert (example.band, example.rank, example.split) == ("top", 1, "explain")
    assert (example.document_id, example.labels) == ("d1", {"language": "en"})
    assert example.text == " some words feat1 number1 top"


def test_halves_share_no_document() -> None:
    for evidence in read_evidence(features(2), [distinct(2)]):
        bands = (*evidence.firing_bands, *SILENT_BANDS)
        documents = [
            {evidence.windows.document_W[row] for row in evidence.rows(split, bands)}
            for split in ("explain", "score")
        ]
        assert not documents[0] & documents[1]


def test_features_that_never_fire_are_left_out_and_those_without_examples_say_so(tmp_path: Path) -> None:
    table = features(4).set_column(1, "status", pa.array(["alive", "unseen", "dense", "alive"]))
    assert n_firing(table) == 3
    explained = explain(read_evidence(table, [distinct(3)]), LexicalConfig(), scratch=tmp_path, **IDS)
    rows = {row["feature_index"]: row for row in explained.explanations.to_pylist()}
    assert set(rows) == {0, 2, 3}
    assert (rows[3]["status"], rows[3]["text"], rows[3]["predicate"]) == ("error", None, None)
    assert "too few examples" in rows[3]["error"]
    assert explained.facts["statuses"] == {"ok": 2, "error": 1}


def test_min_examples_is_kept(tmp_path: Path) -> None:
    config = LexicalConfig(min_examples=100)
    explained = explain(read_evidence(features(1), [distinct(1)]), config, scratch=tmp_path, **IDS)
    assert explained.explanations["status"].to_pylist() == ["error"]


def test_a_feature_in_two_blocks_is_refused() -> None:
    with pytest.raises(UserError, match="feature 0 come in two blocks"):
        list(read_evidence(features(1), [distinct(1), distinct(1)]))


def context_starts(*, with_special: bool, is_marked: bool) -> pa.Table:
    """A latent that fires on the first three tokens of every context; silent further on in the same texts.

    ``is_marked`` says whether the rows say which tokens are special, as those of the first version do not.
    """
    rows = []
    for band, at_start in (("top", True), ("random", False), ("neighbour", False)):
        for rank in range(40):
            words = [f" w{(7 * rank + i) % 23}" for i in range(8)]
            prefix = [""] if at_start and with_special else []
            n = len(prefix)
            fires = [0.0] * n + [2.0, 3.0, 1.0] * at_start
            row = {
                "feature_index": 0,
                "band": band,
                "rank": rank,
                "tokens": [*prefix, *words],
                "activations": [*fires, *[0.0] * (len(words) + n - len(fires))],
                "peak_position": n + 1 if at_start else 4,
                "max_activation": 3.0 * at_start,
                "document_id": f"d{rank}",
                "char_start": 0 if at_start and rank % 4 == 1 else 50,
                "token_start": 32 * (rank % 3),
                "split": "explain" if rank % 2 else "score",
            }
            marks = {"is_special": [True] * n + [False] * 8, "text_before": 0 if at_start else 40}
            rows.append(row | marks if is_marked else row)
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("is_marked", [True, False])
@pytest.mark.parametrize("with_special", [True, False])
def test_the_first_tokens_of_a_context_are_called_that(
    tmp_path: Path, with_special: bool, is_marked: bool
) -> None:
    """Never "after the rest of a character", whether or not a special token stands before them."""
    table = context_starts(with_special=with_special, is_marked=is_marked)
    explained = explain(read_evidence(features(1), [table]), LexicalConfig(), scratch=tmp_path, **IDS)
    (row,) = explained.explanations.to_pylist()
    assert "character" not in row["text"]
    if with_special or is_marked:
        assert "start of a chunk" in row["text"], row["text"]
        assert "context_" in row["predicate"]


def test_special_tokens_of_the_first_version_are_found_where_they_can_be() -> None:
    """Without text at a context's beginning: special; further on: the rest of a character."""
    table = distinct(1).slice(0, 2).to_pylist()
    table[0]["tokens"], table[1]["tokens"] = ["", "", "a", "", "b"], ["x", "", "y", " z", ""]
    (evidence,) = read_evidence(features(1), [pa.Table.from_pylist(table)])
    found = [evidence.windows.special(row) for row in range(2)]
    assert found == [(True, True, False, False, False), (False,) * 5]


def test_one_class_of_items_is_no_score(tmp_path: Path) -> None:
    table = distinct(2)
    only_firing = table.filter(pa.array([band not in SILENT_BANDS for band in table["band"].to_pylist()]))
    explained = explain(read_evidence(features(2), [table]), LexicalConfig(), scratch=tmp_path, **IDS)
    scored = score(
        read_evidence(features(2), [only_firing]),
        explained.explanations,
        PredicateConfig(),
        scratch=tmp_path,
        **IDS,
    )
    rows = scored.scores.to_pylist()
    assert {row["variant"] for row in rows} == {"mixed"}
    assert {(row["value"], row["n"]) for row in rows} == {(None, 0)}
    assert scored.judgements.num_rows == 0
    assert scored.facts["n_scored"] == 0


def test_all_equal_activations_and_tiny_windows_work(tmp_path: Path) -> None:
    table = distinct(1, n_per_half=1).to_pylist()
    for row in table:
        row["tokens"], row["activations"] = ["x"], [0.5 * (row["max_activation"] > 0)]
        row["peak_position"] = 0
    explained = explain(
        read_evidence(features(1), [pa.Table.from_pylist(table)]), LexicalConfig(), scratch=tmp_path, **IDS
    )
    assert explained.explanations["status"].to_pylist() == ["ok"]


def test_ids_depend_on_evidence_and_config_and_nothing_else(tmp_path: Path) -> None:
    def ids(name: str, table: pa.Table, config: LexicalConfig) -> list[str]:
        done = explain(read_evidence(features(2), [table]), config, scratch=tmp_path / name, **IDS)
        return [str(i) for i in done.explanations["explanation_id"].to_pylist()]

    plain = ids("a", distinct(2), LexicalConfig())
    assert ids("b", distinct(2), LexicalConfig()) == plain
    assert not set(ids("c", distinct(2), LexicalConfig(penalty=0.02))) & set(plain)
    assert not set(ids("d", distinct(2, n_per_half=5), LexicalConfig())) & set(plain)


def test_tables_and_progress(tmp_path: Path) -> None:
    heard: list[Progress] = []
    done = explain(
        read_evidence(features(3), [distinct(3)]),
        LexicalConfig(),
        scratch=tmp_path,
        n_features=3,
        listener=heard.append,
        **IDS,
    )
    assert heard == [Progress("features explained", i, 3) for i in (1, 2, 3)]
    assert done.explanations.schema.equals(schema_of("explanations"))
    assert done.llm_calls.schema.equals(schema_of("llm_calls"))
    texts = {row["feature_index"]: row["text"] for row in done.explanations.to_pylist()}
    assert texts == {i: f'"feat{i}"' for i in range(3)}


def test_explainer_that_asks_needs_an_endpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name an endpoint profile"):
        explain([], ContextsConfig(endpoint="x"), scratch=tmp_path, **IDS)


@pytest.mark.parametrize(
    ("registry", "name"), [(kind, name) for kind in (EXPLAINERS, SCORERS) for name in kind.names()]
)
def test_registered_classes_hang_together(registry: Registry[Any], name: str) -> None:
    cls = registry[name]
    needed = {key: "pico-b" for key, field in cls.Config.model_fields.items() if field.is_required()}
    pooling = {"pooling": "mean"} if "pooling" in cls.Config.model_fields else {}
    fields = {**needed, **pooling, registry.kind: name}
    config = registry.resolve_config(registry.kind)(fields)
    assert type(config) is cls.Config
    assert cls.Config.model_validate(config.canonical()) == config
    assert len(cls.prompt_digest(config)) == 64
    assert (config.endpoint_name is not None) == cls.needs_client
    with pytest.raises(ValidationError, match="unknown field 'colour'"):
        registry.resolve_config(registry.kind)({**fields, "colour": "red"})


def test_journal_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append("b", {"value": 2})
    journal.append("a", {"value": 1})
    journal.append("a", {"value": 9})
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"key": "c", "val')
    again = Journal(path)
    assert "c" not in again
    again.append("c", {"value": 3})
    assert [(r["key"], r["value"]) for r in again.records()] == [("a", 1), ("b", 2), ("c", 3)]
    assert len(again) == 3
    again.close()


KILLED = """
import sys
from pathlib import Path
from tasks.autointerp.explainers.lexical import LexicalConfig
from tasks.autointerp.records import read_evidence
from tasks.autointerp.runner import explain
from tests.tasks.autointerp.planted import distinct, features

def evidence():
    for i, one in enumerate(read_evidence(features(40), [distinct(40, n_per_half=3)])):
        if i == 25:
            print("ready", flush=True)
            sys.stdin.read()
        yield one

explain(evidence(), LexicalConfig(), scratch=Path(sys.argv[1]), dictionary_id="d-00000000",
        activation_set_id="s-00000000")
"""


def test_kill_in_the_middle_resumes_to_the_same_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).resolve().parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    table = distinct(40, n_per_half=3)

    def run(scratch: Path) -> pa.Table:
        done = explain(read_evidence(features(40), [table]), LexicalConfig(), scratch=scratch, **IDS)
        return done.explanations.drop_columns(TIMES)

    resumed, whole = run(tmp_path / "killed"), run(tmp_path / "whole")
    assert resumed.equals(whole)
    assert resumed.num_rows == 40
