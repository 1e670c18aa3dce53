"""Train dictionaries on activations, several from one stream; a stopped training continues bit for bit."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
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
from tasks.dictionaries.sites import SiteActivations
from tasks.dictionaries.stream import ActivationReader
from tasks.dictionaries.trained import TrainedDictionary, TrainingInterrupted
from tasks.training.feed import Feed
from tasks.training.replicas import Replicas, local_device, replicas
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


@dataclass(frozen=True)
class TrainingOptions:
    """How trainings run; no option changes results by more than rounding.

    On a CPU results are the same bit for bit for the same number of threads and processes.
    """

    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    n_threads: int | None = None
    """CPU threads of a new training; default: those of torch here, limited by its size (`threads_of_step`);
    a resumed one keeps its number."""
    precision: Precision = "auto"
    """Of matrix products: ``auto`` is bfloat16 on GPUs that have it, else float32. Weights stay float32."""
    checkpoint_seconds: float = 15.0
    """Shortest time between two checkpoints, longer if saving takes more than a twentieth of the time;
    0 saves after every step."""
    listener: ProgressListener = silent
    """Gets the tokens seen after each step, for all dictionaries together."""
    should_stop: Callable[[], bool] = field(default=lambda: False)
    """Called after each batch; true means checkpoint and stop."""


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
    options = TrainingOptions(device, n_threads, precision, checkpoint_seconds, listener, should_stop)
    (outcome,) = train_many([TrainingJob(config, activations, scratch, labels, model, parent)], options)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def train_many(
    jobs: Sequence[TrainingJob],
    options: TrainingOptions = TrainingOptions(),
    finished: Callable[[int, Outcome], None] = lambda _number, _outcome: None,
) -> list[Outcome]:
    """Train several dictionaries; those with equal order of equal data learn from one pass over it.

    Each ends exactly as if it had been trained alone, and one that fails does not stop the others.

    Args:
        jobs: Dictionaries to train.
        options: How to train them.
        finished: Gets the number and outcome of each job when it ends.

    Returns:
        For each job its dictionary, or the error that a user can fix (see `train`).

    Raises:
        TrainingInterrupted: when ``options.should_stop`` returned true; the checkpoints are written.
    """
    outcomes: dict[int, Outcome] = {}
    device = local_device(choose_device(options.device))
    with replicas(device) as group, torch_threads(options.n_threads):
        meter = _Meter(jobs, options.listener if group.is_first else silent)

        def end(number: int, outcome: Outcome) -> None:
            outcomes[number] = outcome
            if group.is_first:
                finished(number, outcome)

        for numbers in _groups(jobs):
            first = jobs[numbers[0]]
            if (steps := _STEPS.get(_how_trained(first))) is not None:
                members = {number: jobs[number] for number in numbers}
                _train_together(steps, members, options, device, group, meter, end)
            elif _how_trained(first) == "imported":
                end(numbers[0], UserError(imported_only(first.config.architecture)))
            elif group.is_first:
                end(numbers[0], _fit(first, options))
            else:
                end(numbers[0], UserError("only the first process fits what is not trained by steps"))
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


def _fit(job: TrainingJob, options: TrainingOptions) -> Outcome:
    architecture = cast(type[FittedDictionary], ARCHITECTURES[job.config.architecture])
    sites = SiteActivations.of(job.activations)
    fitting = Fitting(sites, job.scratch, job.labels, options.listener, options.should_stop)
    try:
        with torch_threads(None):  # a resumed fit takes the number of its checkpoint
            return architecture.fit(job.config, fitting)
    except UserError as error:
        return error


def _train_together(
    steps: "_Steps",
    jobs: Mapping[int, TrainingJob],
    options: TrainingOptions,
    device: torch.device,
    group: Replicas,
    meter: "_Meter",
    end: Callable[[int, Outcome], None],
) -> None:
    """Train jobs with one feed; those without room in memory next to the others come after them."""
    waiting = dict(jobs)
    while waiting:
        first = next(iter(waiting.values()))
        try:
            feed = steps.new_feed(first)
        except UserError as error:
            for number in waiting:
                end(number, error)
            return
        new_run = partial(steps.new_run, device=device, feed=feed, group=group, options=options)
        training = SharedTraining(
            feed,
            group,
            checkpoint_seconds=options.checkpoint_seconds,
            should_stop=options.should_stop,
            tell=meter.tell,
            end=end,
        )
        waiting = {
            number: job
            for number, job in waiting.items()
            if not training.add(number, partial(new_run, job), job.scratch)
        }
        training.train()


def _feed(job: TrainingJob) -> Feed:
    return Feed(SiteActivations.of(job.activations), _gradient_config(job))


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

    return SequenceFeed(SiteActivations.of(job.activations), _gradient_config(job))


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
