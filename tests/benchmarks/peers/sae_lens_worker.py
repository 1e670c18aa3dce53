"""SAELens: ``SAETrainer.step``, fed from memory."""

from typing import Any

import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor
from worker import Case, bias_for, serve

CLASSES: dict[str, tuple[Any, Any, Any]] = {
    "topk": (TopKTrainingSAE, TopKTrainingSAEConfig, lambda case: {"k": case.k}),
    "batch_topk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, lambda case: {"k": float(case.k)}),
    "relu_l1": (StandardTrainingSAE, StandardTrainingSAEConfig, lambda case: {"l1_coefficient": 1e-4}),
    "jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig, lambda case: {"l0_coefficient": 1e-6}),
}


def build(case: Case, data: list[Tensor]) -> Any:
    cls, config, sparsity = CLASSES[case.method]
    torch.manual_seed(0)
    sae = cls(config(d_in=case.d_in, d_sae=case.d_sae, apply_b_dec_to_input=True, **sparsity(case)))
    if case.active is not None:
        with torch.no_grad():
            sae.b_enc += bias_for(case, data[0][:512] @ sae.W_enc + sae.b_enc)
    lr = 2e-4 if "topk" in case.method else 1e-6
    sizes = {"total_training_samples": 10**9, "train_batch_size_samples": case.batch_tokens}
    trainer: Any = SAETrainer(SAETrainerConfig(**sizes, lr=lr, lr_end=lr), sae, iter(()))

    def step(batch: Tensor) -> float:
        trainer.n_forward_passes_since_fired[: case.n_dead] = 1e9
        loss = float(trainer.step(batch).loss.detach())
        trainer.n_training_steps += 1
        return loss

    return step


if __name__ == "__main__":
    serve("sae-lens", build)
