"""Processes that compute on one machine share its cores, and work that goes on keeps its threads."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tasks.common.cores import KEPT, chosen_by_user, counted, share, shared_cores, torch_threads

HOLD = (
    "import sys; from pathlib import Path; from tasks.common.cores import counted\n"
    "with counted(Path(sys.argv[1])) as n: print(n, flush=True); sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A state folder of its own, eight threads, and a user who chose nothing."""
    monkeypatch.setenv("FEATLAS_STATE", str(tmp_path / "state"))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with torch_threads(8):
        yield tmp_path / "state" / "computing"


@pytest.mark.parametrize(("cores", "computing", "threads"), [(8, 1, 8), (8, 3, 2), (2, 2, 1), (2, 5, 1)])
def test_a_share_is_an_equal_part_and_at_least_one_thread(cores: int, computing: int, threads: int) -> None:
    assert share(cores, computing) == threads


def test_processes_that_compute_are_counted_until_they_end_however_they_end(machine: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(machine)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    with other:
        assert other.stdout.readline() == b"1\n"
        with counted() as second, counted() as third:
            assert (second, third) == (2, 3)
        other.send_signal(signal.SIGKILL)
        other.wait(30)
    with counted() as alone:
        assert alone == 1
    assert not list(machine.glob("*.process"))


def test_torch_has_the_share_inside_and_its_own_number_afterwards() -> None:
    with shared_cores() as alone:
        assert (alone, torch.get_num_threads()) == (8, 8)
        with shared_cores() as second:
            assert (second, torch.get_num_threads()) == (4, 4)
        assert torch.get_num_threads() == 8
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_number_of_the_user_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8")
    assert chosen_by_user()
    with shared_cores(), shared_cores() as second:
        assert second == 8


def test_work_that_goes_on_keeps_the_number_it_began_with(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "codes").mkdir(parents=True)
    with counted(), shared_cores(scratch) as first:
        pass
    with shared_cores(scratch) as again:
        assert (first, again, torch.get_num_threads()) == (4, 4, 4)
    (scratch / KEPT).write_text("{]")
    with shared_cores(scratch) as unreadable:
        assert unreadable == 8


def test_work_that_was_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(ValueError), shared_cores(scratch):  # noqa: PT011
        raise ValueError
    assert not list(scratch.iterdir())


def test_a_folder_that_cannot_be_written_leaves_everybody_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with counted(tmp_path / "file" / "below") as first, counted(tmp_path / "file" / "below") as second:
        assert (first, second) == (1, 1)
    assert os.listdir(tmp_path) == ["file"]
