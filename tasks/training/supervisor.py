"""The parent's side of a training child: start it, read its reports, kill it when it hangs, restart it."""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.durable import make_folder
from catalog.errors import UserError
from tasks.common.progress import Progress, ProgressListener, doing, silent
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.training_log import TrainingLog
from tasks.dictionaries.weights import CONFIG_FILE, load_dictionary
from tasks.training.child import (
    ERROR,
    EXIT_INTERRUPTED,
    INTERRUPTED,
    LOG,
    RESULT,
    TRAINED,
)
from tasks.training.request import (
    Refusal,
    TrainingOptions,
    TrainingRequest,
    TrainingResult,
    write_requests,
)
from tasks.training.trainer import NonFiniteLoss, TrainingInterrupted

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 10.0
_LOG_TAIL = 600
_REQUEST = "request.json"


class TrainingFailed(UserError):
    """The training child died repeatedly."""


@dataclass(frozen=True)
class ChildTraining:
    """The result of a training child."""

    dictionary: Dictionary
    """The dictionary with folded normalisation, read back from ``folder``."""
    folder: Path
    """cfg.json and sae_weights.safetensors, ready to be moved into the catalogue."""
    log: pa.Table
    """step, n_tokens, metric, value"""
    result: TrainingResult


@dataclass(frozen=True)
class Supervision:
    """How many processes train, and how long their parent waits for progress."""

    n_processes: int = 1
    """Processes that share every batch, for example one per GPU; torchrun starts more than one."""
    startup_seconds: float = 600.0
    """Seconds to the first step (imports, reading the data), after which a child is killed."""
    watchdog_seconds: float = 120.0
    """Seconds without a later step after which a child is killed."""
    max_restarts: int = 3
    """Number of restarts of a killed or crashed child; it continues from its last checkpoints."""


def train_many_in_child(
    trainings: Sequence[TrainingRequest],
    options: TrainingOptions,
    supervision: Supervision = Supervision(),
    listener: ProgressListener = silent,
) -> Iterator[tuple[int, ChildTraining | UserError]]:
    """Train several dictionaries in one child process; yield each number with its outcome when it ends.

    Those that read the same activations in the same order share one pass over them, see `train_many`. A
    finished training in a scratch folder is returned unchanged. A refusal is the outcome of only its
    training. If the last allowed child died, `TrainingFailed` is the outcome of all unfinished ones.

    Raises:
        TrainingInterrupted: when the child was asked to stop (SIGTERM); it wrote checkpoints.
    """
    pending = dict(enumerate(trainings))
    for training in trainings:
        make_folder(training.scratch)
        (training.scratch / ERROR).unlink(missing_ok=True)
    yield from _take_ended(pending)
    code = 0
    n_starts = supervision.max_restarts + 1
    for attempt in range(n_starts):
        if not pending:
            return
        home = next(iter(pending.values())).scratch
        write_requests(home / _REQUEST, tuple(pending.values()), options)
        code = yield from _run_child(home, pending, supervision, listener)
        if code == EXIT_INTERRUPTED or (home / INTERRUPTED).is_file():
            raise TrainingInterrupted("the training was asked to stop and wrote a checkpoint")
        if code != 0:
            logger.warning(
                "training child %d of %d %s", attempt + 1, supervision.max_restarts + 1, _how(code)
            )
    for number, training in pending.items():
        yield (
            number,
            TrainingFailed(
                f"dictionary {training.config.name()!r}: the training process {_how(code)} and was started "
                f"{n_starts} times: give it more memory or lower batch_tokens and "
                f"buffer_tokens; it said: {_tail(home / LOG)}"
            ),
        )


def _run_child(
    home: Path, pending: dict[int, TrainingRequest], supervision: Supervision, listener: ProgressListener
) -> Generator[tuple[int, ChildTraining | UserError], None, int]:
    """One child from start to end, yielding outcomes; return its exit code, negative for a signal."""
    (home / INTERRUPTED).unlink(missing_ok=True)
    doing("starting the training process", listener)
    with (home / LOG).open("ab") as log, _child(_command(home, supervision.n_processes), log) as process:
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
        patience = supervision.startup_seconds
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                logger.warning("no progress for %.0f s: killing the training child", patience)
                process.kill()
                line = None
            if line is None:
                code = process.wait()
                yield from _take_ended(pending)
                return code
            said = json.loads(line)
            if isinstance(said, dict):
                yield from _take_ended(pending)
            else:
                progress = Progress(*said)
                if progress.total > 0:  # the first step; words before it do not end the time to start
                    patience = supervision.watchdog_seconds
                listener(progress)


def _command(home: Path, n_processes: int) -> list[str]:
    child = ["-m", "tasks.training.child", str(home / _REQUEST)]
    if n_processes == 1:
        return [sys.executable, *child]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    return [sys.executable, *launcher, *child]


@contextmanager
def _child(command: list[str], log: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that never outlives the block: asked to end first, then killed."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _pump(process: "subprocess.Popen[bytes]", lines: "queue.SimpleQueue[bytes | None]") -> None:
    """Move the child's lines into a queue; None marks their end."""
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _take_ended(pending: dict[int, TrainingRequest]) -> Iterator[tuple[int, ChildTraining | UserError]]:
    """The outcomes of the trainings that have ended; they are no longer pending."""
    for number, training in list(pending.items()):
        if _is_finished(training.scratch):
            del pending[number]
            yield number, _read_result(training.scratch)
        elif (training.scratch / ERROR).is_file():
            del pending[number]
            yield number, _read_refusal(training.scratch)


def _is_finished(scratch: Path) -> bool:
    """Whether a result exists with its weights; an interrupted commit may have moved them away."""
    return (scratch / RESULT).is_file() and (scratch / TRAINED / CONFIG_FILE).is_file()


def _read_result(scratch: Path) -> ChildTraining:
    result = TrainingResult.model_validate_json((scratch / RESULT).read_bytes())
    folder = scratch / TRAINED
    return ChildTraining(load_dictionary(folder), folder, TrainingLog(result.log).table(), result)


def _read_refusal(scratch: Path) -> UserError:
    refusal = Refusal.model_validate_json((scratch / ERROR).read_bytes())
    return (NonFiniteLoss if refusal.kind == "nonfinite" else UserError)(refusal.message)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _tail(path: Path) -> str:
    text = path.read_text(errors="replace").strip()
    return text[-_LOG_TAIL:] or "nothing"
