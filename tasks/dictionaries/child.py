"""Train in a process of its own: watched for progress, restarted within limits, gone with its parent.

The parent writes a request file and starts ``python -m tasks.dictionaries.child REQUEST``. The child
tells its progress line by line on its standard output and leaves in the working folder:

    trained/        cfg.json and sae_weights.safetensors
    result.json     written last: the training is complete
    error.json      why it could not be done, when trying again would not help
    child.log       what it and its libraries said

Its standard input is a pipe that only the parent holds open: when it closes, the child ends at once. On
Linux the kernel also kills it with its parent. On SIGTERM it writes a checkpoint and ends with code 143.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from pydantic import Field

from catalog.durable import replace_file
from catalog.errors import UserError
from tasks.activations.shards import ActivationSet
from tasks.common.config import StrictConfig
from tasks.common.progress import Progress
from tasks.dictionaries.base import AnyDictionaryConfig
from tasks.dictionaries.trainer import NonFiniteLoss, TrainingInterrupted, train
from tasks.dictionaries.weights import save_dictionary

TRAINED, RESULT, ERROR, LOG = "trained", "result.json", "error.json", "child.log"
EXIT_INTERRUPTED = 128 + signal.SIGTERM
EXIT_REFUSED = 2
_PR_SET_PDEATHSIG = 1


class TrainingRequest(StrictConfig):
    """What a training child is asked to do."""

    config: AnyDictionaryConfig
    activation_set: Path
    """Folder of the activation set."""
    scratch: Path
    """Working folder; a rerun goes on with the checkpoints in it."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Metadata for cfg.json: model_name, hook_name and the like."""
    device: str = "auto"
    n_threads: int | None = None
    checkpoint_seconds: float = 15.0


class TrainingResult(StrictConfig):
    """Facts of a finished training."""

    weights_digest: str
    scales: tuple[float, ...]
    n_nonfinite: int
    tokens_per_second: float
    log: list[tuple[int, int, str, float]]
    """Rows of the training log: step, n_tokens, metric, value."""


class Refusal(StrictConfig):
    """An error that trying again would not mend."""

    kind: Literal["user", "nonfinite"]
    message: str


def main(request_file: str) -> int:
    """Train as the request says; returns the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    request = TrainingRequest.model_validate_json(Path(request_file).read_bytes())
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _train(request, stop)
    except TrainingInterrupted as reason:
        logging.info("%s", reason)
        return EXIT_INTERRUPTED
    except UserError as error:
        kind: Literal["user", "nonfinite"] = "nonfinite" if isinstance(error, NonFiniteLoss) else "user"
        refusal = Refusal(kind=kind, message=str(error))
        replace_file(request.scratch / ERROR, refusal.model_dump_json().encode())
        return EXIT_REFUSED
    return 0


def end_with_parent() -> None:
    """Arrange for this process to end when its parent does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait_for_parent, name="parent watch", daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _train(request: TrainingRequest, stop: threading.Event) -> None:
    trained = train(
        request.config,
        ActivationSet.open(request.activation_set),
        request.scratch,
        device=request.device,
        n_threads=request.n_threads,
        listener=_tell,
        checkpoint_seconds=request.checkpoint_seconds,
        should_stop=stop.is_set,
    )
    digest = save_dictionary(trained.dictionary, request.scratch / TRAINED, request.metadata)
    result = TrainingResult(
        weights_digest=digest,
        scales=trained.scales,
        n_nonfinite=trained.n_nonfinite,
        tokens_per_second=trained.tokens_per_second,
        log=[tuple(row.values()) for row in trained.log.to_pylist()],
    )
    replace_file(request.scratch / RESULT, result.model_dump_json().encode())


def _tell(progress: Progress) -> None:
    print(json.dumps([progress.done, progress.total]), flush=True)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1]))
