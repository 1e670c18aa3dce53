"""featlas: whole training steps with their checks and bookkeeping, fed from memory."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from worker import Case, bias_for, serve

from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.dictionaries.kernels.products import product
from tasks.training.run import TrainingRun

SPARSITY = {
    "topk": lambda case: {"k": case.k, "aux_alpha": 1 / 32 if case.n_dead else 0},
    "batch_topk": lambda case: {"k": case.k, "aux_alpha": 1 / 32 if case.n_dead else 0},
    "relu_l1": lambda case: {"l1_coefficient": 1e-4, "lr": 1e-6},
    "jumprelu": lambda case: {"l0_coefficient": 1e-6, "lr": 1e-6},
}


class InMemory:
    """The batches as an activation set of one token per sequence."""

    context_length = 1

    def __init__(self, data: list[Tensor]) -> None:
        self.values = torch.cat(data).unsqueeze(1).numpy()
        self.d_in = self.values.shape[2]
        self.tokens = SimpleNamespace(valid=np.ones(self.values.shape[:2], dtype=bool))

    def sequence_rows(self, split: str) -> Any:
        return np.arange(len(self.values) if split == "train" else 0)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def build(case: Case, data: list[Tensor]) -> Any:
    fields = {"architecture": case.method, "d_sae": case.d_sae, "batch_tokens": case.batch_tokens}
    config = dictionary_config({**fields, "n_tokens": 10**9, **SPARSITY[case.method](case)})
    run = TrainingRun(config, InMemory(data), torch.device("cpu"))
    run.start()
    run.state.step = 10**5  # after the warm-up, before the decay
    weights.update(encoder=run.dictionary.W_enc, bias=run.dictionary.b_enc)
    if case.active is not None:
        with torch.no_grad():
            run.dictionary.b_enc += bias_for(case, run.dictionary.pre_acts(data[0][:512]))

    def step(batch: Tensor) -> float:
        run.state.tokens_since_fired[: case.n_dead] = 10**12
        return float(run.learn(batch).loss.detach())

    return step


weights: dict[str, Tensor] = {}


@torch.no_grad()
def encoder_matmul(batch: Tensor) -> None:
    """The encoder alone, as torch multiplies matrices."""
    torch.addmm(weights["bias"], batch, weights["encoder"])


@torch.no_grad()
def encoder_product(batch: Tensor) -> None:
    """The encoder alone, with the library that featlas chooses."""
    product(batch, weights["encoder"], weights["bias"])


if __name__ == "__main__":
    ARCHITECTURES.names()  # imports every architecture
    serve("featlas-platform", build, {"matmul": encoder_matmul, "product": encoder_product})
