"""Trainings without a process of their own, whose start takes ten times as long as a tiny training."""

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from catalog.errors import UserError
from tasks.training import child, supervisor
from tasks.training.request import read_requests


@contextmanager
def trained_here() -> Iterator[None]:
    """Let this process do what the training child does, with the same files for request and result.

    Processes, signals and restarts are tested in `tests/tasks/training` and `tests/end_to_end`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "_run_child", _train)
        yield


def _train(home: Path, pending: dict[int, Any], *_: Any) -> Generator[tuple[int, Any], None, int]:
    requests, options = read_requests(home / supervisor._REQUEST)
    with redirect_stdout(io.StringIO()):
        try:
            child._train(requests, options, Event())
        except UserError as error:
            for number, training in enumerate(requests):
                if not (training.scratch / child.RESULT).is_file():
                    child._leave(number, training, error)
    yield from supervisor._take_ended(pending)
    return 0
