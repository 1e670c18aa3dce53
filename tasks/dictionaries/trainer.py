"""Train a dictionary on an activation set; a stopped training goes on bit for bit."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tasks.common.device import choose_device
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.checkpoint import load_checkpoint, save_checkpoint
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.fitted import FittedDictionary, Fitting
from tasks.dictionaries.sites import SiteActivations
from tasks.dictionaries.stream import ActivationReader
from tasks.dictionaries.training_run import (
    NonFiniteLoss,
    TrainedDictionary,
    TrainingInterrupted,
    TrainingRun,
)

__all__ = ["NonFiniteLoss", "TrainedDictionary", "TrainingInterrupted", "TrainingRun", "train"]

_SAVE_SHARE = 0.05  # of the time at most goes into checkpoints


def train(
    config: DictionaryConfig,
    activations: ActivationReader,
    scratch: Path,
    *,
    device: str = "auto",
    n_threads: int | None = None,
    listener: ProgressListener = silent,
    checkpoint_seconds: float = 15.0,
    should_stop: Callable[[], bool] = lambda: False,
    labels: Path | None = None,
) -> TrainedDictionary:
    """Train from scratch, or from the newest intact checkpoint in ``scratch/checkpoints``.

    On a CPU the result is the same bit for bit however often the training was stopped: weights,
    optimiser, randomness, data cursor and number of threads are part of a checkpoint.

    Args:
        config: What to train.
        activations: The activation set; only its train split is read.
        scratch: Folder of the checkpoints.
        device: ``auto``, ``cpu`` or ``cuda``.
        n_threads: CPU threads of a new training; a resumed one keeps the number it began with.
        listener: Told the tokens seen after each step.
        checkpoint_seconds: Shortest time between two checkpoints, longer where saving takes more than
            a twentieth of the time; 0 saves after every step.
        should_stop: Asked after each step; true means checkpoint and stop.
        labels: Labels of the documents, for architectures that read them, see `Fitting`.

    Raises:
        UserError: for sizes that cannot work, an activation set without train tokens, too many
            activations that are not finite, or a checkpoint of another configuration.
        NonFiniteLoss: when the loss is NaN or infinite.
        TrainingInterrupted: when ``should_stop`` said so; the checkpoint is written.
    """
    checkpoint = load_checkpoint(scratch / "checkpoints")
    if checkpoint is not None:
        n_threads = checkpoint.state["n_threads"]
    with _threads(n_threads):
        architecture = ARCHITECTURES[config.architecture]
        if issubclass(architecture, FittedDictionary):
            sites = SiteActivations.of(activations)
            return architecture.fit(config, Fitting(sites, scratch, labels, listener, should_stop))
        run = TrainingRun(config, activations, choose_device(device))
        run.start() if checkpoint is None else run.restore(checkpoint)
        speed = _run_steps(run, scratch / "checkpoints", listener, checkpoint_seconds, should_stop)
        return run.finish(speed)


def _run_steps(
    run: TrainingRun,
    folder: Path,
    listener: ProgressListener,
    checkpoint_seconds: float,
    should_stop: Callable[[], bool],
) -> float:
    """All remaining steps with their checkpoints; returns tokens per second."""
    n_before, began = run.state.n_tokens, time.monotonic()
    saved_at, pause = began, checkpoint_seconds
    total = run.config.n_steps * run.config.batch_tokens
    while run.state.step < run.config.n_steps:
        run.step()
        listener(Progress("tokens trained", run.state.n_tokens, total))
        stop = should_stop()
        is_last = run.state.step == run.config.n_steps
        if stop or is_last or time.monotonic() - saved_at >= pause:
            save_began = time.monotonic()
            save_checkpoint(folder, run.checkpoint())
            saved_at = time.monotonic()
            if checkpoint_seconds > 0:
                pause = max(checkpoint_seconds, (saved_at - save_began) / _SAVE_SHARE)
        if stop and not is_last:
            raise TrainingInterrupted(f"stopped at step {run.state.step} of {run.config.n_steps}")
    return (run.state.n_tokens - n_before) / max(time.monotonic() - began, 1e-9)


@contextmanager
def _threads(n_threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
