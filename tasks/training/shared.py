"""Trains dictionaries step by step together from one feed: batches, checkpoints, endings."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from catalog.errors import UserError
from tasks.common.checkpoint import load_checkpoint, save_checkpoint
from tasks.dictionaries.trained import TrainedDictionary, TrainingInterrupted
from tasks.training.feed import Feed
from tasks.training.memory import NotEnoughMemory
from tasks.training.replicas import Replicas
from tasks.training.run import TrainingRun

_SAVE_SHARE = 0.05  # largest share of the time for writing checkpoints

Outcome = TrainedDictionary | UserError


@dataclass
class Member:
    """One training of the group."""

    run: TrainingRun
    checkpoints: Path
    n_tokens_before: int
    seconds: float = 0.0
    """Its own time in this process: waiting for batches, learning, saving."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of this process, including checkpoints."""
        return (self.run.state.n_tokens - self.n_tokens_before) / max(self.seconds, 1e-9)


class SharedTraining:
    """Trains several dictionaries, each exactly as it would be trained alone.

    A member whose checkpoint is ahead of the others waits until they have caught up. A member that fails
    with an error that a user can fix leaves the group; the others continue.

    Args:
        feed: Source of the batches.
        replicas: The processes that share the work.
        checkpoint_seconds: Shortest time between two checkpoints; 0 saves after every step.
        should_stop: Called after each batch.
        tell: Gets the tokens of a member, by its number, when it is added and after each of its steps.
        end: Gets the outcome of a member when it ends.
    """

    def __init__(
        self,
        feed: Feed,
        replicas: Replicas,
        *,
        checkpoint_seconds: float,
        should_stop: Callable[[], bool],
        tell: Callable[[int, int], None],
        end: Callable[[int, Outcome], None],
    ) -> None:
        self.feed, self.replicas = feed, replicas
        self.checkpoint_seconds, self.should_stop = checkpoint_seconds, should_stop
        self._tell, self._end = tell, end
        self._members: dict[int, Member] = {}
        self._saved_at, self._pause = time.monotonic(), checkpoint_seconds

    def add(self, number: int, make: Callable[[], TrainingRun], scratch: Path) -> bool:
        """A training at its start, or at its newest intact checkpoint.

        Returns:
            False when there is no memory for it next to the others: it must wait until they are done.
        """
        with self._ending(number):
            run, lacking = None, None
            try:
                run = _begun(make(), scratch / "checkpoints")
                if not run.is_done:
                    run.plan_memory(sum(member.run.growth_bytes for member in self._members.values()))
            except NotEnoughMemory as error:
                lacking = error
            if self.replicas.any(lacking is not None) or run is None:
                if self._members:
                    return False
                raise lacking or NotEnoughMemory("another process of this training has too little memory")
            self.replicas.begin(run.dictionary, run.state)
            self._members[number] = Member(run, scratch / "checkpoints", run.state.n_tokens)
            if not run.is_done:
                self._tell(number, run.state.n_tokens)  # a sign of life, because many members may follow
        return True

    def train(self) -> None:
        """All remaining steps of all members.

        Raises:
            TrainingInterrupted: when asked to stop; all members have a checkpoint.
        """
        self._finish_done()
        if not self._members:
            return
        with self._ending(*self._members):
            self.feed.go_to(min(member.run.position for member in self._members.values()))
        while self._members:
            learning = self._take_batch()
            stop = self.replicas.any(self.should_stop())
            self._save(learning, stop=stop)
            self._finish_done()
            if stop and self._members:
                at = ", ".join(f"{m.run.state.step} of {m.run.state.n_steps}" for m in self._members.values())
                raise TrainingInterrupted(f"stopped at step {at}")

    def _take_batch(self) -> Mapping[int, Member]:
        """One batch for all members whose turn it is; return those that are still in the group."""
        began, step = time.monotonic(), self.feed.position.step
        learning = {number: m for number, m in self._members.items() if m.run.position.step == step}
        with self._ending(*self._members):
            batch_NW = self.feed.next_batch(self.replicas.part(self.feed.stream.batch_tokens))
            waited = time.monotonic() - began
            for number, member in learning.items():
                began = time.monotonic()
                with self._ending(number):
                    member.run.learn(batch_NW)
                    self._tell(number, member.run.state.n_tokens)
                member.seconds += waited + time.monotonic() - began
        return {number: member for number, member in learning.items() if number in self._members}

    def _save(self, learning: Mapping[int, Member], *, stop: bool) -> None:
        """Write checkpoints when it is time, and for all members at the last step."""
        began = time.monotonic()
        due = self.replicas.first(began - self._saved_at >= self._pause) or stop
        for member in learning.values():
            if (due or member.run.is_done) and self.replicas.is_first:
                save_began = time.monotonic()
                save_checkpoint(member.checkpoints, member.run.checkpoint())
                member.seconds += time.monotonic() - save_began
        if due:
            self._saved_at = time.monotonic()
            if self.checkpoint_seconds > 0:
                self._pause = max(self.checkpoint_seconds, (self._saved_at - began) / _SAVE_SHARE)

    def _finish_done(self) -> None:
        for number, member in list(self._members.items()):
            if member.run.is_done:
                with self._ending(number):
                    outcome = member.run.finish(member.tokens_per_second)
                    del self._members[number]
                    self._end(number, outcome)

    @contextmanager
    def _ending(self, *numbers: int) -> Iterator[None]:
        """An error that a user can fix ends the members concerned, not the process."""
        try:
            yield
        except UserError as error:
            for number in numbers:
                self._members.pop(number, None)
                self._end(number, error)


def _begun(run: TrainingRun, checkpoints: Path) -> TrainingRun:
    """At its start, or at its newest intact checkpoint, which then leaves memory."""
    checkpoint = load_checkpoint(checkpoints)
    if checkpoint is None:
        run.start()
    else:
        run.restore(checkpoint)
    return run
