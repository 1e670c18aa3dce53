"""The parent's side of a training child: start it, listen, kill it when it hangs, start it again."""

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.durable import make_folder, replace_file
from catalog.errors import UserError
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.child import (
    ERROR,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    LOG,
    RESULT,
    TRAINED,
    Refusal,
    TrainingRequest,
    TrainingResult,
)
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.trainer import NonFiniteLoss, TrainingInterrupted
from tasks.dictionaries.training_log import TrainingLog
from tasks.dictionaries.weights import CONFIG_FILE, load_dictionary

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 10.0
_LOG_TAIL = 600


class TrainingFailed(UserError):
    """The training child died again and again."""


@dataclass(frozen=True)
class ChildTraining:
    """What a training child left behind."""

    dictionary: Dictionary
    """Normalisation folded in, as read back from ``folder``."""
    folder: Path
    """cfg.json and sae_weights.safetensors, ready to be moved into the catalogue."""
    log: pa.Table
    """step, n_tokens, metric, value"""
    result: TrainingResult


def train_in_child(
    config: DictionaryConfig,
    activation_folder: Path,
    scratch: Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    device: str = "auto",
    n_threads: int | None = None,
    listener: ProgressListener = silent,
    checkpoint_seconds: float = 15.0,
    watchdog_seconds: float = 120.0,
    startup_seconds: float = 600.0,
    max_restarts: int = 3,
) -> ChildTraining:
    """Train in a child process; a finished training in ``scratch`` is returned as it is.

    A child that has not made its first step after ``startup_seconds`` (imports, first reading of the data),
    or later makes none for ``watchdog_seconds``, is killed. A killed or crashed child is started again, at
    most ``max_restarts`` times, and goes on from its last checkpoint.

    Raises:
        UserError: what the training refused (see `train`).
        NonFiniteLoss: when the loss became NaN or infinite.
        TrainingFailed: when the last allowed child died too.
        TrainingInterrupted: when the child was asked to stop (SIGTERM); it wrote a checkpoint.
    """
    make_folder(scratch)
    request = TrainingRequest(
        config=config,
        activation_set=activation_folder.resolve(),
        scratch=scratch.resolve(),
        metadata=dict(metadata or {}),
        device=device,
        n_threads=n_threads,
        checkpoint_seconds=checkpoint_seconds,
    )
    replace_file(scratch / "request.json", request.model_dump_json().encode())
    (scratch / ERROR).unlink(missing_ok=True)
    for attempt in range(max_restarts + 1):
        if _is_finished(scratch):
            return _read_result(scratch)
        code = _run_child(scratch, listener, startup_seconds, watchdog_seconds)
        if code == EXIT_REFUSED and (scratch / ERROR).is_file():
            _raise_refusal(scratch)
        if code == EXIT_INTERRUPTED:
            raise TrainingInterrupted("the training was asked to stop and wrote a checkpoint")
        if code != 0:
            logger.warning("training child %d of %d %s", attempt + 1, max_restarts + 1, _how(code))
    if _is_finished(scratch):
        return _read_result(scratch)
    raise TrainingFailed(
        f"dictionary {config.name()!r}: the training process {_how(code)} and was started {max_restarts + 1} "
        f"times: give it more memory or lower batch_tokens and buffer_tokens; it said: "
        f"{_tail(scratch / LOG)}"
    )


def _run_child(
    scratch: Path, listener: ProgressListener, startup_seconds: float, watchdog_seconds: float
) -> int:
    """One child from start to end; returns its exit code, negative for a signal."""
    command = [sys.executable, "-m", "tasks.dictionaries.child", str(scratch / "request.json")]
    with (scratch / LOG).open("ab") as log, _child(command, log) as process:
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
        patience = startup_seconds
        while True:
            try:
                line = lines.get(timeout=patience)
            except queue.Empty:
                logger.warning("no progress for %.0f s: killing the training child", patience)
                process.kill()
                return process.wait()
            if line is None:
                return process.wait()
            patience = watchdog_seconds
            done, total = json.loads(line)
            listener(Progress("tokens trained", done, total))


@contextmanager
def _child(command: list[str], log: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that never outlives the block: asked first, then killed."""
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


def _is_finished(scratch: Path) -> bool:
    """Whether a result is there with its weights; those may have been moved away by a broken commit."""
    return (scratch / RESULT).is_file() and (scratch / TRAINED / CONFIG_FILE).is_file()


def _read_result(scratch: Path) -> ChildTraining:
    result = TrainingResult.model_validate_json((scratch / RESULT).read_bytes())
    folder = scratch / TRAINED
    return ChildTraining(load_dictionary(folder), folder, TrainingLog(result.log).table(), result)


def _raise_refusal(scratch: Path) -> None:
    refusal = Refusal.model_validate_json((scratch / ERROR).read_bytes())
    raise (NonFiniteLoss if refusal.kind == "nonfinite" else UserError)(refusal.message)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _tail(path: Path) -> str:
    text = path.read_text(errors="replace").strip()
    return text[-_LOG_TAIL:] or "nothing"
