"""A stage that is killed at any point of its commit is seen whole or not at all, and runs again."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from catalog.connection import connect
from catalog.store import TableStore

MOMENTS = (
    "parquet.rename:1",
    "parquet.rename:5",
    "note.write:1",
    "note.rename:1",
    "folder.rename:1",
    "folder.rename:2",
    "delta.commit:1",
    "delta.commit:4",
    "delta.flush:9",
    "file_list.rename:2",
    "snapshot.write:1",
    "snapshot.link:1",
    "newest.rename:1",
    "lease.rename:2",
    "publish.duckdb:1",
    "publish.rename:1",
)
"""Before anything, between any two of: data, note, folders, logs, lists, the one commit, lease, views."""

POINTS = tuple(sorted({moment.partition(":")[0] for moment in MOMENTS} | {"parquet.write", "parquet.fsync"}))
CLOSELY = 10
KILLED = -9

Run = Callable[[Path, int, str], int]


@pytest.fixture(scope="module")
def before(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue that holds generation 0."""
    root = tmp_path_factory.mktemp("before") / "catalogue"
    assert run(root, 0, "") == 0
    return root


def seen(root: Path) -> set[int]:
    """Generations that a reader finds, over tables and folders; one if nothing is torn."""
    with connect(root) as connection:
        generations = {
            *connection.execute("select distinct n_tokens - 1 from features").fetchall(),
            *connection.execute("select distinct d_sae - 8 from dictionaries").fetchall(),
            *connection.execute(
                "select max(split_part(explanation_id, '-', 2)::int) from explanations"
            ).fetchall(),
            *connection.execute("select max((facts::json->>'generation')::int) from stage_runs").fetchall(),
        }
        n_examples = connection.execute("select count(*) from examples").fetchone()
    assert n_examples == (8,)
    return {generation for (generation,) in generations}


def check_after_fault(root: Path, run: Run, small: ModuleType) -> None:
    first = seen(root)
    assert len(first) == 1, f"torn: {first}"
    assert run(root, 1, "") == 0
    assert seen(root) == {1}
    assert (root / "_blobs/dictionaries/d/sae_weights.safetensors").read_text() == "1"
    faults = TableStore(root).verify(deep=True)
    assert [f for f in faults if "sae_weights" not in f] == []
    with connect(root) as connection:
        attempts = connection.execute(
            "select count(*) from stage_runs where facts::json->>'generation' = '1' and state = 'committed'"
        ).fetchone()
    assert attempts == (1,)
    assert not small.do_stage(root, 1)


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_at_a_moment(moment: str, run: Run, before: Path, tmp_path: Path, small: ModuleType) -> None:
    root = tmp_path / "catalogue"
    shutil.copytree(before, root)
    assert run(root, 1, f"{moment}:kill") == KILLED
    check_after_fault(root, run, small)


@pytest.mark.faults
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("point", POINTS)
def test_kill_at_every_visit_of_a_point(
    point: str, run: Run, before: Path, tmp_path: Path, small: ModuleType
) -> None:
    visit = 0
    status = KILLED
    while status == KILLED:
        visit += 1 if visit < CLOSELY else CLOSELY - 1
        root = tmp_path / str(visit) / "catalogue"
        shutil.copytree(before, root)
        status = run(root, 1, f"{point}:{visit}:kill")
        if status == KILLED:
            check_after_fault(root, run, small)
        shutil.rmtree(root)
    assert status == 0
    assert visit > 1, f"the stage never passed {point}"


@pytest.mark.parametrize("point", ["parquet.write", "delta.commit"])
def test_full_disk_leaves_the_old_version_and_one_sentence(
    point: str, run: Run, before: Path, tmp_path: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catalog.errors import CatalogueError

    root = tmp_path / "catalogue"
    shutil.copytree(before, root)
    files = {path for path in root.rglob("*.parquet") if "stage_runs" not in path.parts}
    monkeypatch.setenv("FEATLAS_FAULT", f"{point}:3:enospc")
    with pytest.raises(CatalogueError, match="No space left on device") as caught:
        small.do_stage(root, 1)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("FEATLAS_FAULT")
    assert seen(root) == {0}
    assert not list(root.rglob(".tmp-*"))
    assert {path for path in root.rglob("*.parquet") if "stage_runs" not in path.parts} == files
    check_after_fault(root, run, small)


_LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import small
from catalog.errors import CatalogueError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    small.do_stage(Path({root!r}), 1)
except CatalogueError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "landed"), [(5_000, False), (200_000, True)])
def test_a_file_that_the_system_refuses(
    limit: int, landed: bool, run: Run, before: Path, tmp_path: Path, small: ModuleType
) -> None:
    """A real refusal, of a data file or of the published views; the same commit goes through afterwards."""
    root = tmp_path / "catalogue"
    shutil.copytree(before, root)
    code = _LIMITED.format(folder=str(Path(__file__).parent), limit=limit, root=str(root))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("cannot publish the views" if landed else "cannot write to")
    assert done.stdout.count("\n") == 1
    assert seen(root) == ({1} if landed else {0})
    check_after_fault(root, run, small)
