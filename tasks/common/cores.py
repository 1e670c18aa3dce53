"""The processes of featlas on a machine share its cores.

Each process that computes holds a lock on its own file in the state folder; the system releases the lock when
the process ends. A process that starts counts the held locks and takes its share of the threads. A process
that started alone keeps all threads; waiting threads sleep (`tasks.common.threads`), so this costs little.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from catalog.durable import replace_file
from tasks.common.paths import state_folder

SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
KEPT = "threads.json"
_COUNT_SECONDS = 10.0


def chosen_by_user(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user sets the number of threads; then nothing here changes it."""
    return any(environment.get(name) for name in SETTINGS)


def share(n_cores: int, n_computing: int) -> int:
    """Threads of one of several processes that share some cores, at least one."""
    return max(1, n_cores // n_computing)


@contextmanager
def counted(folder: Path | None = None) -> Iterator[int]:
    """Count as computing inside; gives the number of computing processes at the start, including this one.

    If the folder cannot be written, or keeps no locks, the count is one.

    Args:
        folder: Folder of the locks, by default in the state folder.
    """
    n, own = _join(folder or state_folder() / "computing")
    try:
        yield n
    finally:
        if own is not None:
            Path(own.lock_file).unlink(missing_ok=True)
            own.release()


@contextmanager
def shared_cores(scratch: Path | None = None) -> Iterator[int]:
    """Compute inside with this process' share of torch's threads; gives their number.

    Args:
        scratch: Folder of work that may be interrupted and continued. Sums may depend on the number of
           threads in their last bits, so the folder records the number with which the work started.
    """
    import torch

    before = torch.get_num_threads()
    with counted() as n_computing:
        n_threads = before if chosen_by_user() else share(before, n_computing)
        if scratch is not None:
            n_threads = _kept(scratch / KEPT, n_threads)
        try:
            with torch_threads(n_threads):
                yield n_threads
        finally:
            if scratch is not None and not any(path.is_dir() for path in scratch.glob("*")):
                (scratch / KEPT).unlink(missing_ok=True)  # no work was started


@contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Compute inside with a number of torch threads; None leaves it unchanged."""
    import torch

    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _join(folder: Path) -> tuple[int, FileLock | None]:
    with suppress(OSError, NotImplementedError):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "count", timeout=_COUNT_SECONDS):
            n_others = sum(_is_held(path) for path in folder.glob("*.process"))
            own = FileLock(folder / f"{os.getpid()}-{secrets.token_hex(4)}.process")
            own.acquire(timeout=0)
            return n_others + 1, own
    return 1, None


def _is_held(path: Path) -> bool:
    """Whether a live process holds the lock; the file of an ended process is removed."""
    try:
        with FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
            return False
    except Timeout:
        return True


def _kept(path: Path, n_threads: int) -> int:
    """The number of an earlier attempt, else this one, which is then recorded."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return max(1, int(json.loads(path.read_text("utf-8"))["n_threads"]))
    replace_file(path, json.dumps({"n_threads": n_threads}).encode())
    return n_threads
