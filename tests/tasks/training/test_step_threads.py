"""A new training takes the threads that its size deserves; one that goes on keeps those it began with."""

from pathlib import Path
from typing import Any

import pytest

from tasks.common.checkpoint import load_checkpoint
from tasks.common.cores import torch_threads
from tasks.dictionaries.base import dictionary_config
from tasks.training.step_threads import threads_of_step
from tasks.training.trainer import TrainingInterrupted, train


def flops(d_in: int, d_sae: int, batch_tokens: int = 2048) -> float:
    return 2.0 * batch_tokens * d_in * d_sae


@pytest.mark.parametrize(
    ("size", "available", "threads"),
    [((64, 1024), 2, 1), ((64, 1024, 4096), 16, 1), ((384, 6144), 2, 2), ((768, 24576), 16, 16)],
)
def test_small_steps_get_one_thread_and_large_ones_all(
    size: tuple[int, ...], available: int, threads: int
) -> None:
    assert threads_of_step(flops(*size), available) == threads


def threads_of_checkpoint(folder: Path) -> int:
    checkpoint = load_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return int(checkpoint.state["n_threads"])


def begin(config: Any, planted: Any, folder: Path, **options: Any) -> int:
    """The threads of a training that is stopped after its first batch."""
    with torch_threads(4), pytest.raises(TrainingInterrupted):
        train(config, planted, folder, device="cpu", should_stop=lambda: True, **options)
    return threads_of_checkpoint(folder)


def test_threads_are_chosen_once(planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    fields = {"architecture": "batch_topk", "k": 4, "d_sae": 64, "batch_tokens": 256, "n_tokens": 10_000}
    config = dictionary_config(fields)
    assert begin(config, planted, tmp_path / "small") == 1
    assert begin(config, planted, tmp_path / "told", n_threads=3) == 3
    assert begin(config, planted, tmp_path / "told") == 3, "a training that goes on"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert begin(config, planted, tmp_path / "user") == 4
