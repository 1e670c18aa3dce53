"""Nights that are killed while they add documents: the next one ends as if nothing had happened."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from catalog.connection import connect
from catalog.faults import ENVIRONMENT
from tests.flows.test_growing import N_DOCUMENTS, TABLES, rows_of, settings, write_source

NIGHT = ["-m", "flows.cli", "run", "growing.yaml", "--stage", "compare_observations", "--catalog"]


def featlas(folder: Path, catalogue: str, fault: str = "") -> int:
    hidden = ("PREFECT_", "FEATLAS_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"FEATLAS_STATE": str(folder / "state")} | ({ENVIRONMENT: fault} if fault else {})
    command = [sys.executable, *NIGHT, catalogue]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=280, check=False)
    assert fault or done.returncode == 0, done.stderr.decode()[-2000:]
    return done.returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``before``: a catalogue after the first night. ``calm``: the same after a second night."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "growing.yaml").write_text(yaml.safe_dump(settings(folder)))
    write_source(folder, N_DOCUMENTS[0])
    featlas(folder, "before")
    write_source(folder, N_DOCUMENTS[1])
    shutil.copytree(folder / "before", folder / "calm")
    featlas(folder, "calm")
    return folder


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault",
    ["shard.write:1", "cache.together:1", "mining.shard:1", "parquet.rename:4", "folder.rename:2"],
)
def test_a_killed_night_is_made_good_by_the_next(folder: Path, fault: str) -> None:
    """While caching what is new, while putting sets together, while encoding, and inside two commits."""
    name = fault.replace(":", "-")
    shutil.copytree(folder / "before", folder / name)
    assert featlas(folder, name, fault) == -signal.SIGKILL
    featlas(folder, name)
    with connect(folder / "calm") as connection:
        corpora = {row[0] for row in connection.execute("select corpus_id from corpora").fetchall()}
    assert len(corpora) == 2
    for table in TABLES:
        assert rows_of(folder / name, table, corpora) == rows_of(folder / "calm", table, corpora), table
