"""Run a pipeline without a Prefect server around its stages, then write and import what it trained.

``python run.py PIPELINE CATALOGUE FOLDER``; a process of its own, because the packages that it imports are
a copy with the toys dropped into their folders.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from prefect import Task

from flows import import_dictionary, spine
from flows.commands.export import export_command
from flows.config import load_pipeline
from flows.import_request import import_request
from flows.reports import Run
from tasks.support.policies import StageContext

HOOKPOINT = "blocks.1.resid_post"


def without_prefect(module: ModuleType) -> None:
    """Let a flow's module call the functions of its tasks, under the names of the tasks."""
    for name, task in vars(module).copy().items():
        if isinstance(task, Task):
            task.fn.name = task.name
            setattr(module, name, task.fn)


@contextmanager
def a_run(catalogue: Path, pipeline: str) -> Iterator[Run]:
    """A run that ends in an error if any part of it failed."""
    context = StageContext(catalogue, pipeline, device="cpu")
    run = Run("nightly", pipeline, context, datetime.now(UTC), "0" * 64)
    yield run
    if run.failures:
        raise SystemExit(f"failed: {run.failures}")


def main(pipeline: str, catalogue: Path, folder: Path) -> None:
    """The pipeline, an export and an import."""
    for module in (spine, import_dictionary):
        without_prefect(module)
    with a_run(catalogue, "toys") as run:
        spine.run_stages(run, load_pipeline(pipeline))
    trained = f"pico-b/{HOOKPOINT}/toy_architecture-w32-relu-s0"
    export_command("toy_format", trained, folder, str(catalogue))
    request = import_request("toy_format", str(folder), pipeline, "", HOOKPOINT, "toy", [], [], False)
    with a_run(catalogue, "toys-import") as run:
        import_dictionary._landed(run, request, accept_unverified=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
