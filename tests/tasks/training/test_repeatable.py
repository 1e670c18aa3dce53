"""No step of a training adds in an order that threads decide, so that repeats end with the same bits.

Additions of several threads into one place come in the order in which the threads come. In torch that is so
for ``index_put_`` with ``accumulate`` (the gradient of ``x[index]``) where an index is named twice: of 60
repeats with 40,000 indices and two threads 58 differed in the last bits.
"""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.training.run import TrainingRun

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
