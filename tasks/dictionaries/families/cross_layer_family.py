"""Shared code of cross-layer transcoders: latents write to the MLP outputs of their own and all later layers.

Ameisen et al. 2025 ("Circuit Tracing").

Legend: N tokens, D d_in, E d_out, L d_sae. Hookpoint m that is read belongs to hookpoint m that is written.
Latents are numbered layer by layer, equally many in each. ``W_enc`` (width, L) holds for each latent the
weights of its own layer's hookpoint; ``W_dec`` (L, E) is zero where a latent would write backwards.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.several_hookpoints import SeveralHookpoints
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.widths import Widths


class CrossLayerFields(GradientConfig):
    """The hookpoints that a cross-layer transcoder needs."""

    def check_hookpoints(self) -> None:
        if self.models is not None or not self.reads or len(self.reads) != len(self.writes or ()):
            raise ValueError(
                f"{self.architecture} reads and writes as many layers, in their order: give reads: "
                "[blocks.0.mlp_in, blocks.1.mlp_in], writes: [blocks.0.mlp_out, blocks.1.mlp_out] and so on"
            )


class CrossLayer(SeveralHookpoints):
    """Mix in before the class that encodes."""

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
        if self.d_sae % self.n_layers:
            raise UserError(
                f"dictionary {config.name()!r}: its {self.d_sae} latents must be a multiple of "
                f"{self.n_layers} layers"
            )
        with torch.no_grad():
            self._clear_backwards(self.W_dec)
        self.normalise_decoder()

    @property
    def encoder_width(self) -> int:
        """Each latent reads the hookpoint of its own layer."""
        return self.widths.reads[0]

    def pre_acts(self, x_ND: Tensor) -> Tensor:
        """``x^m W_enc^m + b_enc^m``, layer by layer, concatenated, in the type of the input: (N, L)."""
        inputs = torch.split(self.centred(x_ND), list(self.widths.reads), dim=1)
        weights = torch.split(self.W_enc, self.per_layer, dim=1)
        biases = torch.split(self.b_enc, self.per_layer)
        blocks = [torch.addmm(b, x, w) for x, w, b in zip(inputs, weights, biases, strict=True)]
        return torch.cat(blocks, dim=1).to(x_ND.dtype)

    def feature_columns(self) -> dict[str, list[Any]]:
        """The columns of the base class, and the layer of each latent as its group."""
        layers = [latent // self.per_layer for latent in range(self.d_sae)]
        return {**super().feature_columns(), "feature_group": layers}

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

    def _clear_backwards(self, rows_LE: Tensor) -> None:
        """Set to zero what a latent would write to layers before its own."""
        begins = (0, *torch.tensor(self.widths.writes).cumsum(0).tolist())
        for layer in range(self.n_layers):
            rows_LE[layer * self.per_layer : (layer + 1) * self.per_layer, : begins[layer]].zero_()
