"""Train in a separate process: watched for progress, restarted within limits, ended with its parent.

The parent writes a request file and starts ``python -m tasks.training.child REQUEST``, or several through
``torchrun``. The child reports its progress line by line on its standard output. It writes to the working
folder of each training:

    trained/        cfg.json and sae_weights.safetensors
    result.json     written last: the training is complete
    error.json      why the training failed, if trying again would not help

Next to the request are ``child.log``, the output of the child and its libraries, and ``interrupted``, if it
was asked to stop. Its standard input is a pipe that only the parent holds open: when it closes, the child
ends at once. On Linux the kernel also kills it with its parent. On SIGTERM it writes checkpoints and ends
with code
143.
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

from catalog.durable import replace_file
from catalog.errors import UserError
from tasks.activations.reading.shards import ActivationSet
from tasks.common.cores import shared_cores
from tasks.common.progress import Progress, doing
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.weights import save_dictionary
from tasks.training.request import (
    Refusal,
    TrainingOptions,
    TrainingRequest,
    TrainingResult,
    read_requests,
)
from tasks.training.shared import Outcome
from tasks.training.trainer import NonFiniteLoss, TrainingInterrupted, TrainingJob, train_many

TRAINED, RESULT, ERROR, LOG, INTERRUPTED = "trained", "result.json", "error.json", "child.log", "interrupted"
EXIT_INTERRUPTED = 128 + signal.SIGTERM
_PR_SET_PDEATHSIG = 1


def main(request_file: str) -> int:
    """Train as requested; return the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    requests, options = read_requests(Path(request_file))
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _train(requests, options, stop)
    except UserError as error:
        for number, training in enumerate(requests):
            if not (training.scratch / RESULT).is_file():
                _leave(number, training, error)
    except TrainingInterrupted as reason:
        logging.info("%s", reason)
        Path(request_file).with_name(INTERRUPTED).touch()
        return EXIT_INTERRUPTED
    return 0


def end_with_parent() -> None:
    """Make this process end when its parent does."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait_for_parent, name="parent watch", daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def _train(requests: Sequence[TrainingRequest], options: TrainingOptions, stop: threading.Event) -> None:
    """Train what can be opened; every training leaves a result or a refusal."""
    doing("opening the activations", _tell)
    opened: dict[tuple[tuple[Path, ...], tuple[Path, ...] | None], HookpointActivations] = {}
    jobs: dict[int, TrainingJob] = {}
    for number, request in enumerate(requests):
        key = (request.reads, request.writes)
        try:
            if key not in opened:
                opened[key] = _open(*key)
        except UserError as error:
            _leave(number, request, error)
            continue
        jobs[number] = TrainingJob.of(request, opened[key])
    numbers = list(jobs)
    doing("preparing the training", _tell)

    def leave(position: int, outcome: Outcome) -> None:
        _leave(numbers[position], requests[numbers[position]], outcome)

    with shared_cores():
        train_many(list(jobs.values()), options, leave, listener=_tell, should_stop=stop.is_set)


def _open(reads: tuple[Path, ...], writes: tuple[Path, ...] | None) -> HookpointActivations:
    written = None if writes is None else [ActivationSet.open(folder) for folder in writes]
    return HookpointActivations([ActivationSet.open(folder) for folder in reads], written)


def _leave(number: int, training: TrainingRequest, outcome: Outcome) -> None:
    """Write the result that the parent waits for, and report it."""
    if isinstance(outcome, UserError):
        kind: Literal["user", "nonfinite"] = "nonfinite" if isinstance(outcome, NonFiniteLoss) else "user"
        refusal = Refusal(kind=kind, message=str(outcome))
        replace_file(training.scratch / ERROR, refusal.model_dump_json().encode())
    else:
        doing("saving the weights", _tell)
        digest = save_dictionary(outcome.dictionary, training.scratch / TRAINED, training.metadata)
        result = TrainingResult(
            weights_digest=digest,
            scales=outcome.scales,
            n_nonfinite=outcome.n_nonfinite,
            tokens_per_second=outcome.tokens_per_second,
            log=[tuple(row.values()) for row in outcome.log.to_pylist()],
        )
        replace_file(training.scratch / RESULT, result.model_dump_json().encode())
    print(json.dumps({"ended": number}), flush=True)


def _tell(progress: Progress) -> None:
    print(json.dumps([progress.what, progress.done, progress.total]), flush=True)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1]))
