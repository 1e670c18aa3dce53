"""dictionary_learning: ``trainer.update``, fed from memory."""

from typing import Any

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.standard import StandardTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from torch import Tensor
from worker import Case, bias_for, serve

TRAINERS: dict[str, tuple[Any, Any]] = {
    "topk": (TopKTrainer, lambda case: {"k": case.k, "auxk_alpha": 1 / 32 if case.n_dead else 0}),
    "batch_topk": (BatchTopKTrainer, lambda case: {"k": case.k, "auxk_alpha": 1 / 32 if case.n_dead else 0}),
    "relu_l1": (StandardTrainer, lambda case: {"l1_penalty": 1e-6, "lr": 1e-6}),
    "jumprelu": (JumpReluTrainer, lambda case: {"sparsity_penalty": 1e-9, "lr": 1e-6}),
}


def build(case: Case, data: list[Tensor]) -> Any:
    cls, sparsity = TRAINERS[case.method]
    names = {"layer": 0, "lm_name": "none", "device": "cpu", "seed": 0}
    sizes = {"activation_dim": case.d_in, "dict_size": case.d_sae, "steps": 10**6}
    trainer: Any = cls(**names, **sizes, **sparsity(case))
    if case.active is not None:
        hold(case, trainer.ae, data[0][:512])
    steps = iter(range(10**4, 10**6))

    def step(batch: Tensor) -> float:
        if case.n_dead:
            trainer.num_tokens_since_fired[: case.n_dead] = 10**12
        loss = trainer.update(next(steps), batch)
        return float("nan") if loss is None else float(loss)

    return step


@torch.no_grad()
def hold(case: Case, ae: Any, sample: Tensor) -> None:
    if hasattr(ae, "encoder"):
        ae.encoder.bias += bias_for(case, ae.encoder(sample - ae.bias))
    else:
        ae.b_enc += bias_for(case, sample @ ae.W_enc + ae.b_enc)


if __name__ == "__main__":
    serve("dictionary-learning", build)
