"""Cross-layer transcoder: latents of a layer write to the MLP outputs of it and all later layers.

Ameisen et al. 2025 ("Circuit Tracing"); TopK per layer as in EleutherAI's clt-training.

Legend: N tokens, D d_in, E d_out, L d_sae, M chosen latents, K k times layers, P pairs.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.auxk import aux_ratio
from tasks.dictionaries.families.cross_layer_family import CrossLayer, CrossLayerFields
from tasks.dictionaries.gradient_config import KeptConfig
from tasks.dictionaries.sparse_codes import pairs_per_token, top_per_token
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths


class CrossLayerTranscoderConfig(CrossLayerFields, KeptConfig):
    """A cross-layer transcoder; ``k`` is the number of latents of every token in each layer."""

    example: ClassVar[dict[str, Any]] = {
        "k": 1,
        "reads": ["blocks.1.mlp_in", "blocks.2.mlp_in"],
        "writes": ["blocks.1.mlp_out", "blocks.2.mlp_out"],
    }

    architecture: Literal["cross_layer_transcoder"] = "cross_layer_transcoder"


@ARCHITECTURES.register("cross_layer_transcoder")
class CrossLayerTranscoder(CrossLayer):
    """Minimises the unexplained variance of all layers together; dead latents learn from the residual."""

    purpose = "reads an MLP input per layer; each latent writes to its own and all later outputs"
    config: CrossLayerTranscoderConfig

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        if self.config.k > self.per_layer:
            raise UserError(
                f"dictionary {config.name()!r}: k = {self.config.k} exceeds the {self.per_layer} latents of "
                "a layer; choose a smaller k or a larger d_sae"
            )

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Exactly k columns for each layer; values that are not positive are 0."""
        pre_NL = self.pre_acts(x_ND)
        indices_NK = self._top(pre_NL * self.comparable_norms().norm(dim=1))
        values_NK, order_NK = pre_NL.gather(1, indices_NK).relu().sort(dim=1, descending=True)
        return values_NK, indices_NK.gather(1, order_NK)

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        values_NK, indices_NK = self.encode_sparse(x_ND)
        return values_NK.new_zeros(len(x_ND), self.d_sae).scatter(1, indices_NK, values_NK)

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error of all layers over their variance, plus ``aux_alpha`` times AuxK."""
        pre_NL = self.pre_acts(x_ND)
        indices_NK = self._top(pre_NL.detach())
        acts_P = pre_NL.gather(1, indices_NK).relu().reshape(-1)
        pairs = pairs_per_token(indices_NK, self.d_sae)
        error_NE = y_NE - self.add_offset(pairs.decode(acts_P, self.W_dec), x_ND)
        sse = error_NE.square().sum(dim=1).mean()
        aux = self._aux(pre_NL, error_NE.detach(), state.dead)
        loss = sse / state.total_variance + self.config.aux_alpha * aux
        fired_L, l0 = pairs.fired(acts_P.detach()), (acts_P.detach() > 0).sum() / len(x_ND)
        return TrainingStep(loss, sse.detach(), l0, fired_L, {"aux_loss": aux.detach()})

    def _top(self, keys_NL: Tensor) -> Tensor:
        """The k latents with the largest keys of each layer: (N, K)."""
        layers = torch.split(keys_NL, self.per_layer, dim=1)
        chosen = [top_per_token(layer.contiguous(), self.config.k)[1] for layer in layers]
        return torch.cat([index + number * self.per_layer for number, index in enumerate(chosen)], dim=1)

    def _aux(self, pre_NL: Tensor, residual_NE: Tensor, dead_L: Tensor) -> Tensor:
        """AuxK: the dead latents with the largest pre-activations, whatever their layer."""
        dead = dead_L.nonzero().squeeze(1)
        if len(dead) == 0 or self.config.aux_alpha == 0:
            return residual_NE.new_zeros(())
        dead_NM = pre_NL[:, dead]
        _, places_NK = top_per_token(dead_NM.detach(), min(self.config.n_aux(self.d_in), len(dead)))
        acts_P = dead_NM.gather(1, places_NK).relu().reshape(-1)
        return aux_ratio(residual_NE, pairs_per_token(dead[places_NK], self.d_sae).decode(acts_P, self.W_dec))
