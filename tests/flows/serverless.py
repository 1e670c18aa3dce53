"""Flows without a Prefect server and training processes: they call the functions of their tasks."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prefect import Task

from flows import comparing, evidence, observing, spine, walk
from tests.childless import trained_here


@contextmanager
def tasks_as_functions() -> Iterator[None]:
    """Replace the tasks in the modules of the graph by their functions, under the names of the tasks."""
    with pytest.MonkeyPatch.context() as patch, trained_here():
        for module in (spine, evidence, walk, comparing, observing):
            for name, task in vars(module).copy().items():
                if isinstance(task, Task):
                    task.fn.name = task.name
                    patch.setattr(module, name, task.fn)
        yield
