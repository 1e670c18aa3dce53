"""Every suite tells how far it is after each batch: a listener is never left without word for two of them."""

from dataclasses import replace
from typing import Any

import pytest

from tasks.common.progress import Progress
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation import tokens
from tasks.evaluation.suite import SUITES, Subject, run_suite
from tests.tasks.evaluation.test_suites import config_of

N_BATCHES = 10


class Watched:
    """The activations of the world, and what happens in turn: reads and words to the listener."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.events: list[Progress | None] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world, name)

    def read(self, rows: Any) -> Any:
        self.events.append(None)
        return self.world.read(rows)

    def longest_silence(self) -> int:
        """Most reads in a row without a word."""
        told = "".join("r" if event is None else " " for event in self.events)
        return max(map(len, told.split()), default=0)


@pytest.mark.parametrize("name", [name for name in SUITES.names() if name != "planted_features"])
def test_a_suite_is_never_silent_for_two_batches(
    name: str, subject: Subject, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_CODES_PER_BATCH", 24 * 16 * len(world.words) // (4 * N_BATCHES))
    watched = Watched(world)
    seen = replace(subject, activations=HookpointActivations.of(watched), siblings=[subject.dictionary])
    seen = replace(seen, labelled=frozenset(range(24)))
    run_suite(seen, config_of(name), watched.events.append)
    assert watched.events.count(None) >= N_BATCHES, "there is something to wait for"
    assert watched.longest_silence() == 1
    for progress in filter(None, watched.events):
        assert 0 <= progress.done <= progress.total, progress
