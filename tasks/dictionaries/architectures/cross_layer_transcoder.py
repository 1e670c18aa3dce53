"""Cross-layer transcoder: latents of a layer write to the MLP outputs of it and all later layers.

Ameisen et al. 2025 ("Circuit Tracing"); TopK per layer as in EleutherAI's clt-training.

Legend: N tokens, D d_in, E d_out, L d_sae, M layers, K k * M. Hookpoint m that is read belongs to hookpoint m
that is written. Latents are numbered layer by layer, as many in each. ``W_enc`` (width, L) holds for each
latent the weights of its own layer's hookpoint; ``W_dec`` (L, E) is zero where one would write backwards.
"""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, TrainingState, TrainingStep, Widths
from tasks.dictionaries.coding.revival import aux_ratio
from tasks.dictionaries.coding.several_sites import SeveralSites
from tasks.dictionaries.coding.sparse import pairs_per_token, top_per_token
from tasks.dictionaries.config import DictionaryConfig, KeptConfig


class CrossLayerTranscoderConfig(KeptConfig):
    """A cross-layer transcoder; ``k`` is the number of latents of every token in each layer."""

    example: ClassVar[dict[str, Any]] = {
        "k": 1,
        "reads": ["blocks.1.mlp_in", "blocks.2.mlp_in"],
        "writes": ["blocks.1.mlp_out", "blocks.2.mlp_out"],
    }

    architecture: Literal["cross_layer_transcoder"] = "cross_layer_transcoder"

    def check_sites(self) -> None:
        if self.models is not None or not self.reads or len(self.reads) != len(self.writes or ()):
            raise ValueError(
                f"{self.architecture} reads and writes as many layers, in their order: give reads: "
                "[blocks.0.mlp_in, blocks.1.mlp_in], writes: [blocks.0.mlp_out, blocks.1.mlp_out] and so on"
            )


@ARCHITECTURES.register("cross_layer_transcoder")
class CrossLayerTranscoder(SeveralSites):
    """Minimises the unexplained variance of all layers together; dead latents learn from the residual."""

    Config: ClassVar[type[DictionaryConfig]] = CrossLayerTranscoderConfig
    config: CrossLayerTranscoderConfig
    reconstructs_input: ClassVar[bool] = False

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        self.n_layers = len(widths.reads)
        if len(set(widths.reads)) != 1 or len(widths.writes) != self.n_layers:
            raise UserError(
                f"dictionary {config.name()!r}: layers of unequal widths or number ({widths.reads} to "
                f"{widths.writes}); name one hookpoint of equal width to read and one to write per layer"
            )
        super().__init__(config, widths)
        self.per_layer = self.d_sae // self.n_layers
        if self.d_sae % self.n_layers or self.config.k > self.per_layer:
            raise UserError(
                f"dictionary {config.name()!r}: its {self.d_sae} latents must be a multiple of "
                f"{self.n_layers} layers, with at least k = {self.config.k} in each"
            )
        with torch.no_grad():
            self._clear_backwards(self.W_dec)
        self.normalise_decoder()

    @property
    def encoder_width(self) -> int:
        """Each latent reads the hookpoint of its own layer."""
        return self.widths.reads[0]

    def pre_acts(self, x_ND: Tensor) -> Tensor:
        """``x^m W_enc^m + b_enc^m``, layer by layer side by side: (N, L)."""
        inputs = torch.split(self.centred(x_ND), list(self.widths.reads), dim=1)
        weights = torch.split(self.W_enc, self.per_layer, dim=1)
        biases = torch.split(self.b_enc, self.per_layer)
        blocks = [torch.addmm(b, x, w) for x, w, b in zip(inputs, weights, biases, strict=True)]
        return torch.cat(blocks, dim=1)

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

    def feature_columns(self) -> dict[str, list[Any]]:
        """Beside what the base knows, the layer of each latent as its group."""
        layers = [latent // self.per_layer for latent in range(self.d_sae)]
        return {**super().feature_columns(), "feature_group": layers}

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

    def project_decoder_gradient(self) -> None:
        """Nothing is written backwards; then as for every dictionary."""
        if self.W_dec.grad is not None:
            self._clear_backwards(self.W_dec.grad)
        super().project_decoder_gradient()

    def scale_inputs(self, scale_in_D: Tensor) -> None:
        """Multiply the weights of each layer by the scale of its input."""
        scales = torch.split(scale_in_D, list(self.widths.reads))
        for weights, scale in zip(torch.split(self.W_enc, self.per_layer, dim=1), scales, strict=True):
            weights.mul_(scale.unsqueeze(1))

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

    def _clear_backwards(self, rows_LE: Tensor) -> None:
        """Zero what a latent would write to layers before its own."""
        begins = (0, *torch.tensor(self.widths.writes).cumsum(0).tolist())
        for layer in range(self.n_layers):
            rows_LE[layer * self.per_layer : (layer + 1) * self.per_layer, : begins[layer]].zero_()
