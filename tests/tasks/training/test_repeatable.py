"""No step of a training adds in an order that threads decide, so that repeats end with the same bits.

Additions of several threads into one place come in the order in which the threads come. In torch that is so
for ``index_put_`` with ``accumulate`` (the gradient of ``x[index]``) where an index is named twice: of 60
repeats with 40,000 indices and two threads 58 differed in the last bits.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from catalog.errors import UserError
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.dictionaries.weights import WEIGHTS_FILE
from tasks.training.request import TrainingOptions, TrainingRequest
from tasks.training.run import TrainingRun
from tasks.training.supervisor import train_many_in_child

NAMES = tuple(name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained == "steps")
BATCH, N_STEPS = 200, 12
EMPTY = torch.zeros(0, dtype=torch.int64)
"""Of a mask, which names no place twice."""


class Accumulations(TorchDispatchMode):
    """Watches for additions whose order the threads decide."""

    def __init__(self) -> None:
        super().__init__()
        self.racing: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "index_put" in str(func) and len(args) > 3 and args[3]:
            named = [index for index in args[1] if index is not None and index.dtype != torch.bool]
            places = torch.stack([part.flatten() for part in torch.broadcast_tensors(*named)] or [EMPTY])
            if torch.unique(places, dim=1).shape[1] < places.shape[1]:
                self.racing.append(f"{func} into {tuple(args[0].shape)}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_no_step_adds_twice_to_one_place_in_the_order_of_threads(name: str, planted_for: Any) -> None:
    sizes = {"d_sae": 64, "batch_tokens": BATCH, "n_tokens": BATCH * 40, "dead_after_tokens": BATCH}
    config = dictionary_config({"architecture": name, **sizes, **ARCHITECTURES[name].Config.example})
    run = TrainingRun(config, planted_for(name).activations, torch.device("cpu"))
    run.start()
    with Accumulations() as watched:
        for _ in range(N_STEPS):
            run.step()
    assert watched.racing == []


def test_the_watch_sees_what_would_race() -> None:
    weights = torch.zeros(4, requires_grad=True)
    with Accumulations() as watched:
        weights[torch.tensor([1, 1, 2])].sum().backward()
    assert watched.racing


SPREAD = ("topk", "batch_topk", "jumprelu", "relu_l1", "matryoshka_batch_topk")
"""Architectures whose steps differ in what they add up."""


def trained_in_a_fresh_process(folder: Path, scratch: Path) -> dict[str, tuple[bytes, bytes]]:
    """Weights and log of each architecture, in bytes, from two threads of a process of their own."""
    sizes = {"d_sae": 512, "batch_tokens": 512, "n_tokens": 512 * 60, "dead_after_tokens": 2_048}
    configs = [
        dictionary_config({"architecture": name, **sizes, **ARCHITECTURES[name].Config.example})
        for name in SPREAD
    ]
    requests = [
        TrainingRequest(config=config, reads=(folder,), scratch=scratch / config.architecture)
        for config in configs
    ]
    ended = dict(train_many_in_child(requests, TrainingOptions(device="cpu", n_threads=2)))
    found = {}
    for number, config in enumerate(configs):
        outcome = ended[number]
        assert not isinstance(outcome, UserError), outcome
        log = repr(outcome.log.to_pylist()).encode()
        found[config.architecture] = ((outcome.folder / WEIGHTS_FILE).read_bytes(), log)
    return found


def test_two_fresh_processes_end_with_the_same_bytes(activation_set: ActivationSet, tmp_path: Path) -> None:
    """Two threads each: where memory lies and which thread comes first differ between processes."""
    first, second = (trained_in_a_fresh_process(activation_set.folder, tmp_path / name) for name in "ab")
    assert list(first) == list(SPREAD)
    assert {name: first[name] == second[name] for name in first} == dict.fromkeys(SPREAD, True)
