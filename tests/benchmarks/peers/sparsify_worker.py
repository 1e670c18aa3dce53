"""sparsify: its ``SparseCoder`` with the step of its trainer, which itself needs a language model."""

from typing import Any

import torch
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder
from torch import Tensor
from worker import Case, serve


def build(case: Case, data: list[Tensor]) -> Any:
    torch.manual_seed(0)
    coder = SparseCoder(case.d_in, SparseCoderConfig(num_latents=case.d_sae, k=case.k))
    optimiser = torch.optim.Adam(coder.parameters(), lr=2e-4 / (case.d_sae / 2**14) ** 0.5)
    silent = torch.zeros(case.d_sae, dtype=torch.long)
    fired = torch.zeros(case.d_sae, dtype=torch.bool)
    alpha = 1 / 32 if case.n_dead else 0.0

    def step(batch: Tensor) -> float:
        silent[: case.n_dead] = 10**12
        coder.set_decoder_norm_to_unit_norm()
        dead = silent > 10_000_000 if alpha else None
        variance = (batch - batch.mean(0)).pow(2).sum()
        out = coder(x=batch, y=batch, dead_mask=dead, total_variance=variance)
        fired[out.latent_indices.flatten()] = True
        loss = out.fvu + alpha * out.auxk_loss
        loss.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            silent.add_(len(batch))
            silent[fired] = 0
            fired.zero_()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    serve("eai-sparsify", build)
