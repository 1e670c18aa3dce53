"""Housekeeping keeps the rows, finds damage, and says in ``runs`` how it ended."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.connection import connect
from catalog.errors import CatalogueError
from catalog.ledger import Claim
from catalog.store import SliceWrite, TableStore, publish_rows
from flows.housekeeping import housekeeping
from flows.local import INTERRUPTED
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results, StageContext, UnitKey, run_unit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A catalogue with a few small commits."""
    for number in range(3):
        name = f"toy-{number}"

        def compute(claim: Claim, listener: ProgressListener, name: str = name) -> Results:
            row = {"model_id": name, "source": "local", "architecture": "llama", "n_parameters": 4}
            row |= {"n_layers": 1, "d_model": 2, "vocab_size": 2, "max_context": None}
            row |= {"tokenizer_digest": "0" * 64, "weights_digest": "0" * 64}
            return Results([SliceWrite("models", name, pa.Table.from_pylist([row]))], {})

        run_unit(StageContext(tmp_path, "run-1"), UnitKey("describe_model", 1, name, {"n": number}), compute)
    return tmp_path


def test_rows_stay_and_the_run_is_recorded(root: Path) -> None:
    summary = housekeeping.fn(str(root))
    assert (summary["state"], summary["n_removed"]) == ("completed", 0)
    said = summary["message"].split("; ")
    assert said[0].startswith("verified ")
    assert said[0].endswith(" MB, lists and schemas")
    assert "all files are read within 28 nights" in said[1]
    assert said[2].startswith("compacted ")
    assert said[3] == "removed 0 files and folders"
    with connect(root) as connection:
        names = connection.execute("select model_id from models order by model_id").fetchall()
        assert names == [("toy-0",), ("toy-1",), ("toy-2",)]
        assert connection.execute("select flow, state, pipeline from runs").fetchall() == [
            ("housekeeping", "completed", None)
        ]


def test_a_run_that_was_killed_is_said_to_have_crashed(root: Path) -> None:
    row = {"run_id": "killed", "flow": "nightly", "state": "running", "started_at": datetime.now(UTC)}
    row |= {"code_version": "0", "config_digest": "0"}
    publish_rows(root, [SliceWrite("runs", "killed", pa.Table.from_pylist([row]))], fingerprint="0" * 64)
    housekeeping.fn(str(root))
    with connect(root) as connection:
        states = connection.execute("select flow, state from runs order by flow").fetchall()
    assert states == [("housekeeping", "completed"), ("nightly", "crashed")]


def test_an_interrupted_run_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(store: TableStore) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TableStore, "compact", interrupt)
    with pytest.raises(KeyboardInterrupt):
        housekeeping.fn(str(root))
    with connect(root) as connection:
        assert connection.execute("select state, error from runs").fetchall() == [("cancelled", INTERRUPTED)]


def test_a_damaged_file_fails_the_run_by_name(root: Path) -> None:
    (file, *_) = TableStore(root).files("models")
    content = bytearray((root / file.path).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (root / file.path).write_bytes(content)
    with pytest.raises(CatalogueError, match="models"):
        housekeeping.fn(str(root))
    with connect(root) as connection:
        ((state, error),) = connection.execute("select state, error from runs").fetchall()
    assert state == "failed"
    assert "fault" in error
