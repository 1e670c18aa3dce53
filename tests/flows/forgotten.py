"""A catalogue with a document of words that no other has, and the search for it in every file."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.connection import connect
from catalog.rows import rows_of
from catalog.store import SliceWrite, TableStore, publish_rows
from flows import spine
from flows.cli import main
from flows.commands.upkeep import damaged_shards
from flows.config import PipelineConfig
from flows.graph import Stage
from flows.reports import Run
from tasks.support.policies import StageContext

HOOKPOINT = "blocks.1.resid_post"
SECRET = "doc-017"
WORDS = ["this", "film", "was", "bad", "good", "plot", "actor", "waste", "of", "two", "hours", "road"]
UNIQUE = "zanzibarina quokkafield 48613"
FORGET = """
import os, sys
from pathlib import Path
from flows.forgetting import find_document, forget
for line in sys.stdin:
    root, name, fault = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        os.environ["FEATLAS_FAULT"] = fault
        forget(Path(root), find_document(Path(root), "parquet", name), "tester", None)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def corpus(folder: Path, n: int = 60, **settings: object) -> dict[str, object]:
    """Documents of few words; one of them has words that no other has."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        words = list(rng.choice(WORDS, 40))
        name = f"doc-{i:03d}"
        if name == SECRET:
            words[5:5] = words[20:20] = UNIQUE.split()
        author = f"author {UNIQUE}" if name == SECRET else "x"
        rows.append({"doc_id": name, "text": " ".join(words), "author": author})
    path = folder / "texts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    columns = {"text_column": "text", "id_column": "doc_id", "label_columns": ["author"]}
    return {"source": "parquet", "path": str(path), "near_duplicates": None, **columns, **settings}


def pipeline(folder: Path, **sections: object) -> PipelineConfig:
    """A dictionary of one model on these texts, mined, explained by rules and scored."""
    values = {
        "name": "forget",
        "corpus": sections.get("corpus") or corpus(folder),
        "models": [{"id": "pico-a", "source": "embedded"}],
        "activations": {
            "hookpoints": [HOOKPOINT],
            "context_length": 64,
            "n_tokens": 20_000,
            "eval_share": 0.25,
        },
        "dictionaries": [{"architecture": "topk", "d_sae": 64, "k": 8, "n_tokens": 4_000, "seed": 0}],
        "mining": {"n_top": 8, "n_per_band": 4, "n_random": 8, "n_neighbour": 4},
        "explain": {"explainer": "lexical"},
        "score": [{"scorer": "predicate", "shuffles": 2}],
        **sections,
    }
    return PipelineConfig.model_validate(values)


def walk(root: Path, config: PipelineConfig, run_id: str = "run-1", stages: Sequence[Stage] = ()) -> Run:
    """A run of the pipeline without a failure."""
    run = Run("test", "forget", StageContext(root, run_id, device="cpu"), datetime.now(UTC), "0")
    spine.run_stages(run, config, stages)
    assert run.failures == []
    return run


@dataclass(frozen=True)
class Traces:
    """What would show that the document is still there."""

    words: tuple[str, ...]
    tokens: tuple[str, ...]
    """Texts of tokens that only it has."""
    token_ids: bytes
    """Neighbouring token ids that only it has, as they are stored in arrays."""
    activations: tuple[bytes, ...]
    """Activations of some of these tokens, as they are stored in a shard."""

    def of(self, value: Any) -> list[str]:
        """The traces in a value of a decoded row."""
        if isinstance(value, str):
            return [word for word in (*self.words, *self.tokens) if word in value]
        if isinstance(value, dict):
            return [found for inner in value.values() for found in self.of(inner)]
        if isinstance(value, list | tuple):
            numbers = [one for one in value if type(one) is int]
            joined = "".join(one for one in value if isinstance(one, str))
            ids = [self.token_ids.hex()] if self.token_ids in np.array(numbers, np.int32).tobytes() else []
            return ids + self.of(joined) + [found for one in value for found in self.of(one)]
        return []


def traces_of(root: Path, *, with_examples: bool = True) -> Traces:
    """What only the document has, read from a catalogue that holds it."""
    with connect(root) as connection:
        ((index, ids, documents),) = connection.execute(
            "select sequence_index, token_ids, document_ids from sequences "
            "where list_contains(document_ids, $name) order by 1 limit 1",
            {"name": SECRET},
        ).fetchall()
        (others,) = connection.execute(
            "select list(t) from (select unnest(token_ids) as t, unnest(document_ids) as d from sequences) "
            "where d <> $name",
            {"name": SECRET},
        ).fetchone() or ([],)
        texts = connection.execute(
            "select distinct unnest(tokens), unnest(token_ids) from examples where document_id = $name",
            {"name": SECRET},
        ).fetchall()
        (uri,) = connection.execute("select uri from activation_sets").fetchone() or ("",)
    own = [place for place, document in enumerate(documents) if document == SECRET]
    only = [place for place in own if ids[place] not in set(others)]
    run = next(place for place in only if {place + 1, place + 2} <= set(own))
    tokens = {text for text, token in texts if token not in set(others) and len(text.strip()) > 2}
    assert tokens or not with_examples
    shard = np.load(root / uri / "shard-00000.npy")
    return Traces(
        tuple(UNIQUE.split()[:2]),
        tuple(sorted(tokens)),
        np.array(ids[run : run + 3], np.int32).tobytes(),
        tuple(shard[index, place].tobytes() for place in only[:5]),
    )


def found_in(root: Path, traces: Traces) -> dict[str, set[str]]:
    """Every file of a catalogue that still shows the document: in decoded rows, or in its bytes."""
    found: dict[str, set[str]] = {}
    needles = {word.encode() for word in traces.words} | {traces.token_ids, *traces.activations}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        seen = {repr(needle) for needle in needles if needle in content}
        if path.suffix == ".parquet" and "_delta_log" not in path.parts:
            seen |= set(traces.of(pq.read_table(path, partitioning=None).to_pylist()))
            seen |= {
                key for row in pq.read_table(path, partitioning=None).to_pylist() for key in traces.of(row)
            }
        if seen:
            found[path.relative_to(root).as_posix()] = seen
    return found


def sound(root: Path) -> None:
    """Every byte of the catalogue is as recorded."""
    store = TableStore(root)
    assert store.verify(deep=True) == []
    assert damaged_shards(store) == []


@contextmanager
def forgetter() -> Iterator[Callable[[Path, str], int]]:
    """Forgets the document in a process of its own, with a fault; returns its exit status."""
    with subprocess.Popen(
        [sys.executable, "-c", FORGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def ask(root: Path, fault: str) -> int:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{root}\t{SECRET}\t{fault}\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield ask
        assert server.stdin is not None
        server.stdin.close()


def featlas(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command line."""
    monkeypatch.setattr(sys, "argv", ["featlas", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def name_a_word(root: Path) -> None:
    """Store a label that names what only the document has, as a language model might write it.

    The lexical explainer writes none: each of its words needs two documents.
    """
    with connect(root) as connection:
        (row,) = (
            connection.execute(
                "select * exclude (fingerprint, slice, subject) from explanations where status = 'ok' and "
                "feature_index = (select min(feature_index) from examples where document_id = $name "
                "and contains(array_to_string(tokens, ''), $word)) limit 1",
                {"name": SECRET, "word": UNIQUE.split()[0]},
            )
            .to_arrow_table()
            .to_pylist()
        )
    written = {"explanation_id": "by-hand", "text": f"the word {UNIQUE.split()[0]}", "explainer": "contexts"}
    rows = rows_of("explanations", [{**row, **written, "predicate": None, "token_shares": None}])
    publish_rows(root, [SliceWrite("explanations", "by hand", rows)], fingerprint="by-hand")
