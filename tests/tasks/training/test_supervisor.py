"""The training child under a real parent: killed, hung, refused, asked to stop, orphaned."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from catalog.errors import UserError
from tasks.activations.reading.shards import ActivationSet
from tasks.common.checkpoint import load_checkpoint
from tasks.common.progress import Progress, silent
from tasks.dictionaries.base import dictionary_config
from tasks.training import supervisor
from tasks.training.request import TrainingOptions, TrainingRequest
from tasks.training.supervisor import Supervision, TrainingFailed, train_many_in_child
from tasks.training.trainer import NonFiniteLoss, TrainedDictionary, TrainingInterrupted, train

FIELDS = {"architecture": "batch_topk", "k": 4, "d_sae": 64, "batch_tokens": 256}


def make_config(n_steps: int, **changes: Any) -> Any:
    return dictionary_config({**FIELDS, "n_tokens": 256 * n_steps, **changes})


def children() -> list[psutil.Process]:
    """Training children of this process, which may have others (a server that other tests share)."""
    return [p for p in psutil.Process().children() if "tasks.training.child" in p.cmdline()]


@pytest.fixture(scope="module")
def unbroken(activation_set: ActivationSet, tmp_path_factory: pytest.TempPathFactory) -> TrainedDictionary:
    scratch = tmp_path_factory.mktemp("unbroken")
    return train(make_config(40), activation_set, scratch, device="cpu", n_threads=1)


def assert_same(result: Any, unbroken: TrainedDictionary) -> None:
    for name, tensor in unbroken.dictionary.state_dict().items():
        assert torch.equal(tensor, result.dictionary.state_dict()[name]), name
    assert result.log.equals(unbroken.log)


def run(
    folder: Path,
    scratch: Path,
    config: Any = None,
    listener: Any = silent,
    checkpoint_seconds: float = 0.0,
    **limits: Any,
) -> Any:
    request = TrainingRequest(config=config or make_config(40), reads=(folder,), scratch=scratch)
    options = TrainingOptions(device="cpu", n_threads=1, checkpoint_seconds=checkpoint_seconds)
    ((_, outcome),) = train_many_in_child([request], options, Supervision(**limits), listener)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def test_a_killed_child_is_started_again_and_ends_as_an_unbroken_one(
    activation_set: ActivationSet,
    unbroken: TrainedDictionary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEATLAS_FAULT", "train.step:22")  # each child dies at its 22nd step: two children
    seen: list[Progress] = []
    result = run(activation_set.folder, tmp_path, listener=seen.append)
    assert_same(result, unbroken)
    counted = [progress for progress in seen if progress.total]
    assert counted[-1] == Progress("tokens trained", 40 * 256, 40 * 256)
    words = [progress.what for progress in seen if not progress.total]
    begun = ["starting the training process", "opening the activations", "preparing the training"]
    assert words == [*begun * 2, "saving the weights"]
    assert not children()
    monkeypatch.setenv("FEATLAS_FAULT", "train.step:1")
    assert_same(run(activation_set.folder, tmp_path), unbroken)  # finished: no child, no step


def test_a_child_that_always_dies_is_given_up(
    activation_set: ActivationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_FAULT", "train.step:1")
    with pytest.raises(TrainingFailed, match="was killed by SIGKILL and was started 1 times"):
        run(activation_set.folder, tmp_path, max_restarts=0)


def test_a_hung_child_is_killed_and_replaced(
    activation_set: ActivationSet, unbroken: TrainedDictionary, tmp_path: Path
) -> None:
    stopped: list[int] = []

    def hang_once(progress: Progress) -> None:
        if not stopped and progress.done >= 5 * 256:
            stopped.append(children()[0].pid)
            os.kill(stopped[0], signal.SIGSTOP)

    assert_same(run(activation_set.folder, tmp_path, listener=hang_once, watchdog_seconds=5.0), unbroken)
    assert stopped
    assert not psutil.pid_exists(stopped[0])


def test_words_before_the_first_step_do_not_end_the_time_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that reads for long says so, and is not taken for one that hangs."""
    said = [sys.executable, "-c", """print('["reading", 0, 0]', flush=True); import time; time.sleep(1)"""]
    monkeypatch.setattr(supervisor, "_command", lambda *_: said)
    seen: list[Progress] = []
    child = supervisor._run_child(tmp_path, {}, Supervision(watchdog_seconds=0.1), seen.append)
    with pytest.raises(StopIteration) as end:
        next(child)
    assert end.value.value == 0
    assert [progress.what for progress in seen] == ["starting the training process", "reading"]


def test_sigterm_means_checkpoint_and_stop(
    activation_set: ActivationSet, unbroken: TrainedDictionary, tmp_path: Path
) -> None:
    asked: list[float] = []

    def ask_once(progress: Progress) -> None:
        if progress.total and not asked:
            asked.append(time.monotonic())
            children()[0].terminate()

    with pytest.raises(TrainingInterrupted):
        run(activation_set.folder, tmp_path, make_config(4000), listener=ask_once, checkpoint_seconds=1e9)
    assert time.monotonic() - asked[0] < 10
    checkpoint = load_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert 0 < checkpoint.step < 4000


def test_what_the_child_refuses_reaches_the_parent_as_it_was_said(
    activation_set: ActivationSet, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds no finished activation set"):
        run(tmp_path / "nowhere", tmp_path / "a")
    with pytest.raises(NonFiniteLoss, match="lower lr"):
        run(
            activation_set.folder,
            tmp_path / "b",
            make_config(40, lr=1e30, clip_norm=1e30, normalisation="none"),
        )


def test_the_child_dies_with_its_parent(activation_set: ActivationSet, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tasks.dictionaries.base import dictionary_config\n"
        "from tasks.training.request import TrainingOptions, TrainingRequest\n"
        "from tasks.training.supervisor import train_many_in_child\n"
        f"config = dictionary_config({ {**FIELDS, 'n_tokens': 10**8} })\n"
        "request = TrainingRequest(config=config, reads=(sys.argv[1],), scratch=sys.argv[2])\n"
        "options = TrainingOptions(device='cpu', n_threads=1)\n"
        "told = lambda progress: progress.total and print(progress.done, flush=True)\n"
        "list(train_many_in_child([request], options, listener=told))\n"
    )
    command = [sys.executable, "-c", script, str(activation_set.folder), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert [int(parent.stdout.readline()) for _ in range(2)] == [0, 256]
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive
