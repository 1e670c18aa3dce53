"""Two processes that torchrun starts train what one process trains, and stop and go on together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from catalog.errors import UserError
from tasks.activations.reading.shards import ActivationSet
from tasks.common.checkpoint import Checkpoint, load_checkpoint
from tasks.common.progress import Progress
from tasks.dictionaries.base import dictionary_config
from tasks.training.replicas import Replicas, local_device, replicas
from tasks.training.request import TrainingOptions, TrainingRequest
from tasks.training.supervisor import ChildTraining, Supervision, train_many_in_child
from tasks.training.trainer import (
    TrainedDictionary,
    TrainingInterrupted,
    TrainingJob,
    train_many,
)

FIELDS: dict[str, Any] = {"d_sae": 64, "k": 4, "batch_tokens": 255, "n_tokens": 255 * 40, "lr": 1e-3}
SWEEP = (
    {"architecture": "topk", "d_sae": 512, "k": 1, "aux_alpha": 0.0},
    {"architecture": "batch_topk", "threshold_start_step": 10, "seed": 1},
)
FITTED = {"architecture": "random_directions"}


def config_of(fields: dict[str, Any]) -> Any:
    common = {"d_sae": 64, "k": 4} if fields["architecture"] == FITTED["architecture"] else FIELDS
    return dictionary_config({**common, **fields})


def train_by_two(
    folder: Path, activation_set: ActivationSet, listener: Any, sweep: Sequence[Any] = SWEEP, **changes: Any
) -> list[ChildTraining | UserError]:
    requests = [
        TrainingRequest(
            config=config_of({**fields, **changes}),
            reads=(activation_set.folder,),
            scratch=folder / str(number),
        )
        for number, fields in enumerate(sweep)
    ]
    options, two = TrainingOptions(device="cpu", n_threads=1), Supervision(n_processes=2)
    return [outcome for _, outcome in train_many_in_child(requests, options, two, listener)]


def last_checkpoint(scratch: Path) -> Checkpoint:
    checkpoint = load_checkpoint(scratch / "checkpoints")
    assert checkpoint is not None
    return checkpoint


def test_two_processes_train_as_one(activation_set: ActivationSet, tmp_path: Path) -> None:
    jobs = [
        TrainingJob(config_of(fields), activation_set, tmp_path / "one" / str(number))
        for number, fields in enumerate((*SWEEP, FITTED))
    ]
    alone = train_many(jobs, TrainingOptions(device="cpu", n_threads=1))
    seen: list[Progress] = []
    shared = train_by_two(tmp_path / "two", activation_set, seen.append, (*SWEEP, FITTED))
    for number, (one, two) in enumerate(zip(alone, shared, strict=True)):
        assert isinstance(one, TrainedDictionary), one
        assert isinstance(two, ChildTraining), two
        # BatchTopK chooses within each process's part of a batch: near the whole batch's choice, not equal.
        near = 0.02 if number == 0 else 0.06
        for name, tensor in one.dictionary.state_dict().items():
            torch.testing.assert_close(two.dictionary.state_dict()[name], tensor, rtol=near, atol=near)
        if number == len(SWEEP):
            continue
        losses = [
            [row["value"] for row in trained.log.to_pylist() if row["metric"] == "loss"]
            for trained in (one, two)
        ]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3 if number == 0 else 2e-2)
        assert losses[0][-1] < losses[0][0]
    done = [progress.done for progress in seen if progress.total == 2 * FIELDS["n_tokens"]]
    learned = [n for n in done if n > 0]  # each training shows a sign of life at 0 before its first step
    assert done == [0] * len(SWEEP) + sorted({*learned})
    assert done[-1] == 2 * FIELDS["n_tokens"]
    counters = [
        last_checkpoint(tmp_path / name / "0").weights["tokens_since_fired"] for name in ("one", "two")
    ]
    # Rounding may decide a choice between two latents; more would be tokens or firings that are not joined.
    n_other = int((counters[0] != counters[1]).sum())
    assert n_other <= 5, "tokens are summed over processes, a latent fires if it does in any of them"
    assert (counters[0] % 255 == 0).all()
    assert (counters[0] > 0).any()


def test_processes_stop_together_and_go_on(activation_set: ActivationSet, tmp_path: Path) -> None:
    def is_one_of_two(process: psutil.Process) -> bool:
        try:
            line = process.cmdline()
        except psutil.Error:  # it has ended meanwhile
            return False
        return "tasks.training.child" in line and "--standalone" not in line

    def ask(progress: Progress) -> None:
        if progress.done >= 255 * 5:
            workers = psutil.Process().children(recursive=True)
            for worker in filter(is_one_of_two, workers):
                worker.terminate()
                return  # one of them alone

    with pytest.raises(TrainingInterrupted):
        train_by_two(tmp_path, activation_set, ask, n_tokens=255 * 100_000)
    steps = [last_checkpoint(tmp_path / str(number)).step for number in range(len(SWEEP))]
    assert steps[0] == steps[1] >= 3


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with replicas(torch.device("cpu")) as group:
        assert type(group) is Replicas
        assert group.is_first
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert local_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert local_device(torch.device("cuda")) == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="4 processes were asked for, this machine has 2 cards"):
        local_device(torch.device("cuda"))
