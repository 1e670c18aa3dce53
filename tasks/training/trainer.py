"""Train dictionaries on activations, several from one stream; a stopped training continues bit for bit."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from catalog.errors import UserError
from tasks.activations.models.source import ModelConfig
from tasks.common.cores import chosen_by_user, torch_threads
from tasks.common.device import choose_device
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import ARCHITECTURES, HowTrained, imported_only
from tasks.dictionaries.config import DictionaryConfig, Precision
from tasks.dictionaries.fitted import FittedDictionary, Fitting
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import ActivationReader
from tasks.dictionaries.trained import TrainedDictionary, TrainingInterrupted
from tasks.training.feed import Feed
from tasks.training.replicas import Replicas, local_device, replicas
from tasks.training.request import TrainingOptions, TrainingRequest
from tasks.training.run import NonFiniteLoss, TrainingRun
from tasks.training.shared import Outcome, SharedTraining
from tasks.training.step_threads import step_flops, threads_of_step

if TYPE_CHECKING:
    from tasks.dictionaries.architectures.end_to_end import EndToEndConfig

__all__ = [
    "NonFiniteLoss",
    "TrainedDictionary",
    "TrainingInterrupted",
    "TrainingJob",
    "TrainingOptions",
    "TrainingRun",
    "train",
    "train_many",
]


@dataclass(frozen=True)
class TrainingJob:
    """One dictionary to train."""

    config: DictionaryConfig
    activations: ActivationReader
    """Training data; jobs with the same object and order share one pass over it."""
    scratch: Path
    """Folder of the checkpoints, one per job."""
    labels: Path | None = None
    """Labels of the documents, for architectures that read them, see `Fitting`."""
    model: ModelConfig | None = None
    """The language model, for architectures that train with it in the loop."""
    parent: Path | None = None
    """Folder of the dictionary whose weights it starts from; None for random ones."""

    @classmethod
    def of(cls, request: TrainingRequest, activations: ActivationReader) -> "TrainingJob":
        """A request of another process, with its data opened."""
        return cls(
            request.config, activations, request.scratch, request.labels, request.model, request.parent
        )


def train(
    config: DictionaryConfig,
    activations: ActivationReader,
    scratch: Path,
    *,
    labels: Path | None = None,
    model: ModelConfig | None = None,
    parent: Path | None = None,
    device: str = "auto",
    n_threads: int | None = None,
    precision: Precision = "auto",
    listener: ProgressListener = silent,
    checkpoint_seconds: float = 15.0,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainedDictionary:
    """Train one dictionary; `TrainingJob` and `TrainingOptions` explain the arguments.

    It starts from scratch or from the newest intact checkpoint in ``scratch/checkpoints``; weights,
    optimiser, random state, data cursor and number of threads are part of a checkpoint.

    Raises:
        UserError: for sizes that cannot work, an activation set without train tokens, too many
            activations that are not finite, or a checkpoint of another configuration.
        NonFiniteLoss: when the loss is NaN or infinite.
        TrainingInterrupted: when ``should_stop`` returned true; the checkpoint is written.
    """
    options = TrainingOptions(
        device=device, n_threads=n_threads, precision=precision, checkpoint_seconds=checkpoint_seconds
    )
    job = TrainingJob(config, activations, scratch, labels, model, parent)
    (outcome,) = train_many([job], options, listener=listener, should_stop=should_stop)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def train_many(
    jobs: Sequence[TrainingJob],
    options: TrainingOptions,
    finished: Callable[[int, Outcome], None] = lambda _number, _outcome: None,
    *,
    listener: ProgressListener = silent,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Train several dictionaries; those with equal order of equal data learn from one pass over it.

    Each ends exactly as if it had been trained alone, and one that fails does not stop the others.

    Args:
        finished: Gets the number and outcome of each job when it ends.
        listener: Gets the tokens seen after each step, for all dictionaries together.
        should_stop: Called after each batch; true means checkpoint and stop.

    Returns:
        For each job its dictionary, or the error that a user can fix (see `train`).

    Raises:
        TrainingInterrupted: when ``should_stop`` returned true; the checkpoints are written.
    """
    outcomes: dict[int, Outcome] = {}
    device = local_device(choose_device(options.device))
    with replicas(device) as group, torch_threads(options.n_threads):
        meter = _Meter(jobs, listener if group.is_first else silent)

        def end(number: int, outcome: Outcome) -> None:
            outcomes[number] = outcome
            if group.is_first:
                finished(number, outcome)

        new_group = partial(
            SharedTraining,
            replicas=group,
            checkpoint_seconds=options.checkpoint_seconds,
            should_stop=should_stop,
            tell=meter.tell,
            end=end,
        )
        for numbers in _groups(jobs):
            first = jobs[numbers[0]]
            if steps := _STEPS.get(_how_trained(first)):
                new_run = partial(steps.new_run, device=device, group=group, options=options)
                _train_together({n: jobs[n] for n in numbers}, steps.new_feed, new_run, new_group, end)
            else:
                end(numbers[0], _fit(first, group.is_first, listener, should_stop))
    return [outcomes[number] for number in range(len(jobs))]


def _groups(jobs: Sequence[TrainingJob]) -> list[list[int]]:
    """The numbers of the jobs that share a feed; a job with another way of training is alone."""
    groups: dict[Hashable, list[int]] = {}
    for number, job in enumerate(jobs):
        steps = _STEPS.get(_how_trained(job))
        shares = steps is not None and steps.share_feed
        key = Feed.key(job.activations, _gradient_config(job)) if shares else ("alone", number)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _how_trained(job: TrainingJob) -> HowTrained:
    return ARCHITECTURES[job.config.architecture].how_trained


def _gradient_config(job: TrainingJob) -> GradientConfig:
    if not isinstance(job.config, GradientConfig):
        raise TypeError(f"{type(job.config).__name__} is no GradientConfig: its dictionaries take no steps")
    return job.config


def _fit(
    job: TrainingJob, is_first: bool, listener: ProgressListener, should_stop: Callable[[], bool]
) -> Outcome:
    if _how_trained(job) == "imported":
        return UserError(imported_only(job.config.architecture))
    if not is_first:
        return UserError("only the first process fits what is not trained by steps")
    architecture = cast(type[FittedDictionary], ARCHITECTURES[job.config.architecture])
    activations = HookpointActivations.of(job.activations)
    fitting = Fitting(activations, job.scratch, job.labels, listener, should_stop)
    try:
        with torch_threads(None):  # a resumed fit takes the number of its checkpoint
            return architecture.fit(job.config, fitting)
    except UserError as error:
        return error


def _train_together(
    jobs: Mapping[int, TrainingJob],
    new_feed: Callable[[TrainingJob], Feed],
    new_run: Callable[..., TrainingRun],
    new_group: Callable[[Feed], SharedTraining],
    end: Callable[[int, Outcome], None],
) -> None:
    """Train jobs with one feed; those without room in memory next to the others come after them."""
    waiting = dict(jobs)
    while waiting:
        first = next(iter(waiting.values()))
        try:
            feed = new_feed(first)
        except UserError as error:
            for number in waiting:
                end(number, error)
            return
        training = new_group(feed)
        waiting = {
            number: job
            for number, job in waiting.items()
            if not training.add(number, partial(new_run, job, feed=feed), job.scratch)
        }
        training.train()


def _feed(job: TrainingJob) -> Feed:
    return Feed(HookpointActivations.of(job.activations), _gradient_config(job))


def _run(
    job: TrainingJob, device: torch.device, feed: Feed, group: Replicas, options: TrainingOptions
) -> TrainingRun:
    config, precision = _gradient_config(job), options.precision
    run = TrainingRun(config, job.activations, device, feed, group, precision, job.parent)
    if options.n_threads is None and not chosen_by_user():
        run.n_threads = threads_of_step(step_flops(run), run.n_threads)
    return run


def _sequence_feed(job: TrainingJob) -> Feed:
    from tasks.training.end_to_end_run import SequenceFeed  # brings the language models with it

    return SequenceFeed(HookpointActivations.of(job.activations), _gradient_config(job))


def _end_to_end_run(
    job: TrainingJob, device: torch.device, feed: Feed, group: Replicas, options: TrainingOptions
) -> TrainingRun:
    from tasks.training.end_to_end_run import EndToEndRun

    config = cast("EndToEndConfig", job.config)
    return EndToEndRun(config, job.activations, device, job.model, feed, group, job.parent)


@dataclass(frozen=True)
class _Steps:
    """One way of training by gradient steps."""

    share_feed: bool
    """Whether dictionaries of the same data in the same order learn from one pass over it."""
    new_feed: Callable[[TrainingJob], Feed]
    new_run: Callable[..., TrainingRun]
    """From a job and by name the device, the feed, the processes and the options."""


_STEPS: Mapping[HowTrained, _Steps] = {
    "steps": _Steps(True, _feed, _run),
    "end_to_end": _Steps(False, _sequence_feed, _end_to_end_run),
}


class _Meter:
    """Sums the tokens of all trainings for the listener."""

    def __init__(self, jobs: Sequence[TrainingJob], listener: ProgressListener) -> None:
        self._listener = listener
        self._done = [0] * len(jobs)
        in_steps = [_gradient_config(job) for job in jobs if _how_trained(job) in _STEPS]
        self._total = sum(config.n_steps * config.batch_tokens for config in in_steps)

    def tell(self, number: int, n_tokens: int) -> None:
        """Record the tokens of one training, and report the sum."""
        self._done[number] = n_tokens
        self._listener(Progress("tokens trained", sum(self._done), self._total))
