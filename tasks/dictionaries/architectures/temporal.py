"""Encodes what is new in a token: attention over earlier codes predicts the rest (Lubana et al. 2025,
arXiv 2511.01836). Imported, not trained here.

With the input x of a token (centred, normalised) and r = x at first, in each attention layer

    codes = relu(lam r W_enc),  p = relu(attention(codes of earlier tokens)) W_dec
    r <- r - c p,  c = (p . r) / (|p| + epsilon)^2

and then the latent activations are ``relu(lam r W_enc)``, of which the k largest are kept if there is a k.
The output is their sum of directions, plus ``x - r``, which earlier tokens predicted, plus ``b_dec``;
``lam`` = 1 / (4 D).

Legend: N tokens, S sequences, T context, D d_in, L d_sae, W 2 D: activation and predicted part, concatenated.
"""

from typing import ClassVar, Literal, NoReturn

import torch
from pydantic import Field
from torch import Tensor, nn

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, Dictionary, HowTrained, imported_only
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.temporal_attention import CodeAttention, Sources, sequence_product
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.sparse_encoding import encode_top
from tasks.dictionaries.token_norm import TokenNorm, normalise_tokens
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths
from tasks.dictionaries.without_steps import STEPS_OF_AN_IMPORT, WithoutSteps

_NUMBERS_AT_ONCE = 2**24


class TemporalConfig(WithoutSteps):
    """An imported temporal dictionary."""

    comes_to_be = "imported"
    steps_written = STEPS_OF_AN_IMPORT

    architecture: Literal["temporal"] = "temporal"
    n_tokens: int = Field(ge=1)
    """Tokens it was trained on, as far as its file says."""
    token_norm: TokenNorm = "none"
    """Normalisation of each input by itself: none, layer_norm, constant_norm."""
    k: int | None = Field(default=None, ge=1)
    """Latents to keep per token; default: all positive ones."""
    n_heads: int = Field(ge=1)
    """Heads of each attention layer."""
    n_layers: int = Field(default=1, ge=1)
    """Attention layers; each predicts a part of the residual of the one before."""
    bottleneck_factor: int = Field(ge=1)
    """Codes are this many times as wide as queries and keys."""
    centred: bool = True
    """Whether b_dec is subtracted from the input."""

    @property
    def input_norm(self) -> TokenNorm:
        """That of the file."""
        return self.token_norm

    def sparsity_tag(self) -> str:
        return "relu" if self.k is None else f"k{self.k}"

    def check_width(self, d_in: int) -> None:
        super().check_width(d_in)
        d_sae = self.n_latents(d_in)
        if d_sae % (self.n_heads * self.bottleneck_factor) or (self.k or 1) > d_sae:
            raise UserError(
                f"dictionary {self.name()!r}: its {d_sae} latents must be at least k = {self.k}, and "
                f"a multiple of n_heads x bottleneck_factor = {self.n_heads} x {self.bottleneck_factor}"
            )


@ARCHITECTURES.register("temporal")
class Temporal(Dictionary):
    """Encodes what earlier tokens of the document do not predict; ``b_enc`` is not used."""

    purpose = "encodes what the earlier tokens of a document do not predict"
    how_trained: ClassVar[HowTrained] = "imported"
    reads_context: ClassVar[bool] = True
    config: TemporalConfig
    epsilon: Tensor

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        d_keys = self.d_sae // self.config.bottleneck_factor
        self.attn_layers = nn.ModuleList(
            CodeAttention(self.d_sae, self.config.n_heads, d_keys) for _ in range(self.config.n_layers)
        )
        self.b_enc.requires_grad_(False)
        self.register_buffer("epsilon", torch.tensor(1e-6))
        self.lam = 1 / (4 * self.d_in)

    def saelens(self) -> SaelensForm:
        """Temporal, which has no bias of the encoder."""
        settings = {
            "n_heads": self.config.n_heads,
            "bottleneck_factor": self.config.bottleneck_factor,
            "n_attn_layers": self.config.n_layers,
            "kval_topk": self.config.k,
            "tied_weights": False,
            "sae_diff_type": "relu" if self.config.k is None else "topk",
        }
        return SaelensForm("temporal", left_out=("b_enc", "epsilon"), settings=settings)

    @property
    def input_width(self) -> int:
        """An activation, followed by what earlier tokens predict of it."""
        return 2 * self.d_in

    @property
    def has_skip(self) -> bool:
        """The prediction from earlier tokens reaches the output without the latents."""
        return True

    def centre(self) -> Tensor | None:
        """``b_dec``, unless nothing is subtracted from the input."""
        return self.b_dec if self.config.centred else None

    @torch.no_grad()
    def in_context(self, x_STD: Tensor, segment_ST: Tensor) -> Tensor:
        """Each activation with what the tokens before it in its segment predict of it: (S, T, 2 D).

        Tokens that are not finite are ignored. Few sequences are processed at a time.
        """
        context = x_STD.shape[1]
        step = max(_NUMBERS_AT_ONCE // (context * max(self.d_sae, self.config.n_heads * context)), 1)
        parts = zip(torch.split(x_STD, step), torch.split(segment_ST, step), strict=True)
        return torch.cat([torch.cat([x, self._predicted(x, segment)], dim=2) for x, segment in parts])

    def _predicted(self, x_STD: Tensor, segment_ST: Tensor) -> Tensor:
        counts_ST = x_STD.sum(dim=2).isfinite()
        x_STD = x_STD.masked_fill(~counts_ST.unsqueeze(2), 0)
        sources = Sources(segment_ST, counts_ST)
        start_STD = self._centred_tokens(x_STD.flatten(0, 1)).view_as(x_STD)
        residual_STD = start_STD
        for layer in self.attn_layers:
            codes_STL = sequence_product(residual_STD * self.lam, self.W_enc).relu()
            part_STD = sequence_product(layer(codes_STL, sources).relu(), self.W_dec)
            norm_ST1 = part_STD.norm(dim=2, keepdim=True) + self.epsilon
            share_ST1 = (part_STD * residual_STD).sum(dim=2, keepdim=True) / norm_ST1.square()
            residual_STD = residual_STD - share_ST1 * part_STD
        return start_STD - residual_STD

    def _centred_tokens(self, x_ND: Tensor) -> Tensor:
        normed_ND, centre = normalise_tokens(x_ND, self.config.input_norm), self.centre()
        return normed_ND if centre is None else normed_ND - centre

    def centred(self, x_NW: Tensor) -> Tensor:
        """What is new in each token, times ``lam``: (N, D)."""
        x_ND, predicted_ND = self._halves(x_NW)
        return (self._centred_tokens(x_ND) - predicted_ND) * self.lam

    def encode_sparse(self, x_NW: Tensor) -> tuple[Tensor, Tensor]:
        """With a k exactly k columns; values that are not positive are 0."""
        if self.config.k is None:
            return super().encode_sparse(x_NW)
        values_NK, indices_NK = encode_top(self.centred(x_NW), self.W_enc, self.b_enc, self.config.k)
        return values_NK.relu(), indices_NK

    def encode(self, x_NW: Tensor) -> Tensor:
        """Latent activations (N, L) of rows from `in_context`."""
        if self.config.k is None:
            return self.pre_acts(x_NW).relu()
        values_NK, indices_NK = self.encode_sparse(x_NW)
        return values_NK.new_zeros(len(x_NW), self.d_sae).scatter(1, indices_NK, values_NK)

    def add_offset(self, summed_NE: Tensor, x_NW: Tensor) -> Tensor:
        """The output (N, D) from the weighted sum of directions: predicted part and ``b_dec`` are added."""
        x_ND, predicted_ND = self._halves(x_NW)
        return super().add_offset(summed_NE + predicted_ND, x_ND)

    def _halves(self, x_NW: Tensor) -> tuple[Tensor, Tensor]:
        return x_NW[:, : self.d_in], x_NW[:, self.d_in :]

    def before_training(self, state: TrainingState) -> NoReturn:
        """Refuse.

        Raises:
            UserError: always.
        """
        raise UserError(f"dictionary {self.config.name()!r}: {imported_only(self.config.architecture)}")

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """There is none."""
        raise NotImplementedError("a temporal dictionary is imported, not trained")
