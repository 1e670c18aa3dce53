"""Several dictionaries from one stream: each ends as if it had been trained alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UserError
from tasks.common.progress import Progress
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.training.request import TrainingOptions
from tasks.training.trainer import (
    NonFiniteLoss,
    TrainedDictionary,
    TrainingInterrupted,
    TrainingJob,
    train,
    train_many,
)

COMMON = {"d_sae": 48, "n_tokens": 3_000, "batch_tokens": 100, "lr": 3e-3, "buffer_tokens": 1_000}
SWEEP: Sequence[dict[str, Any]] = (
    {"architecture": "topk", "k": 2},
    {"architecture": "batch_topk", "k": 3, "seed": 1},
    {"architecture": "topk", "k": 2, "d_sae": 32, "n_tokens": 1_500},
    {"architecture": "jumprelu", "target_l0": 2.0, "data_seed": 5},
    {"architecture": "relu_l1", "l1_coefficient": 0.3, "normalisation": "none", "bias_start": "mean"},
    {"architecture": "random_directions", "k": 2},
)


class CountedReads:
    """Activations that say how many tokens were read of them, one of which is not finite."""

    def __init__(self, planted: Any) -> None:
        self.d_in, self.context_length, self.tokens = planted.d_in, planted.context_length, planted.tokens
        self.sequence_rows = planted.sequence_rows
        self.values, self.n_read = planted.values.copy(), 0
        self.values[7, 5, 3] = np.nan

    def read(self, rows: Any) -> Any:
        self.n_read += len(rows) * self.context_length
        return self.values[rows]


def config_of(fields: dict[str, Any]) -> Any:
    fitted = fields["architecture"] == "random_directions"
    return dictionary_config({**({"d_sae": 48} if fitted else COMMON), **fields})


def jobs_on(activations: Any, folder: Path, sweep: Sequence[dict[str, Any]] = SWEEP) -> list[TrainingJob]:
    return [TrainingJob(config_of(fields), activations, folder / str(i)) for i, fields in enumerate(sweep)]


def options(**changes: Any) -> TrainingOptions:
    return TrainingOptions(**{"device": "cpu", "n_threads": 1, **changes})


def assert_same(got: object, wanted: TrainedDictionary) -> None:
    assert isinstance(got, TrainedDictionary)
    for name, tensor in wanted.dictionary.state_dict().items():
        assert torch.equal(tensor, got.dictionary.state_dict()[name]), name
    assert got.log.equals(wanted.log)
    assert (got.scales, got.n_nonfinite) == (wanted.scales, wanted.n_nonfinite)


@pytest.fixture(scope="module")
def activations(planted: Any) -> CountedReads:
    return CountedReads(planted)


@pytest.fixture(scope="module")
def alone(activations: CountedReads, tmp_path_factory: pytest.TempPathFactory) -> list[TrainedDictionary]:
    folder = tmp_path_factory.mktemp("alone")
    return [
        train(job.config, activations, job.scratch, device="cpu", n_threads=1)
        for job in jobs_on(activations, folder)
    ]


def test_together_is_as_alone(
    activations: CountedReads, alone: list[TrainedDictionary], tmp_path: Path
) -> None:
    seen: list[Progress] = []
    ended: list[int] = []
    outcomes = train_many(
        jobs_on(activations, tmp_path),
        options(),
        lambda number, _: ended.append(number),
        listener=seen.append,
    )
    for got, wanted in zip(outcomes, alone, strict=True):
        assert_same(got, wanted)
    assert alone[0].n_nonfinite > 0
    assert ended == [2, 0, 1, 4, 3, 5], "the shortest of a group ends first, groups follow each other"
    trained = [progress.done for progress in seen if progress.what == "tokens trained"]
    assert trained == sorted(trained)


def test_one_pass_serves_all(planted: Any, tmp_path: Path) -> None:
    one, three = CountedReads(planted), CountedReads(planted)
    train_many(jobs_on(one, tmp_path / "one", SWEEP[:1]), options())
    train_many(jobs_on(three, tmp_path / "three", SWEEP[:3]), options())
    last_sample, memory_probe = len(planted.sequence_rows("train")), 32 + 1  # what each reads by itself
    assert three.n_read - one.n_read == 2 * (last_sample + memory_probe) * planted.context_length


def test_members_stopped_at_different_steps_meet_again(
    activations: CountedReads, alone: list[TrainedDictionary], tmp_path: Path
) -> None:
    """One is ahead of the other, a third has not begun: what an unlucky kill leaves behind."""
    jobs = jobs_on(activations, tmp_path, SWEEP[:3])
    for job, n_steps in ((jobs[0], 17), (jobs[1], 4)):
        calls = iter(range(n_steps))
        with pytest.raises(TrainingInterrupted):
            train_many([job], options(), should_stop=lambda calls=calls: next(calls, None) is None)
    for n_steps in (3, 9):
        calls = iter(range(n_steps))
        with pytest.raises(TrainingInterrupted):
            train_many(jobs, options(), should_stop=lambda calls=calls: next(calls, None) is None)
    for got, wanted in zip(train_many(jobs, options()), alone, strict=False):
        assert_same(got, wanted)


def test_a_failure_stays_with_its_dictionary(
    activations: CountedReads, alone: list[TrainedDictionary], tmp_path: Path
) -> None:
    sweep = [
        {"architecture": "topk", "k": 49},
        SWEEP[0],
        {"architecture": "relu_l1", "l1_coefficient": 1.0, "lr": 1e30, "clip_norm": 1e30},
        SWEEP[1],
    ]
    wide, first, wild, second = train_many(jobs_on(activations, tmp_path, sweep), options())
    assert isinstance(wide, UserError)
    assert "k = 49 exceeds" in str(wide)
    assert isinstance(wild, NonFiniteLoss)
    assert "lower lr (now" in str(wild)
    assert_same(first, alone[0])
    assert_same(second, alone[1])


def test_hookpoints_of_one_run_are_trained_one_after_the_other(planted: Any, tmp_path: Path) -> None:
    """Jobs on different activations do not mix; the same set opened once is shared by its jobs."""
    other = CountedReads(planted)
    other.values = other.values[:, :, ::-1].copy()
    first, second = HookpointActivations([CountedReads(planted)]), HookpointActivations([other])
    jobs = [
        TrainingJob(config_of({**SWEEP[0], "n_tokens": 500}), activations, tmp_path / str(number))
        for number, activations in enumerate((first, second))
    ]
    together = train_many(jobs, options())
    for job, got in zip(jobs, together, strict=True):
        assert_same(
            got, train(job.config, job.activations, tmp_path / "again" / job.scratch.name, n_threads=1)
        )
