"""Matching pursuit as the encoder: latents explain the residual one after the other (Costa et al. 2025,
arXiv 2506.03093).

Legend: N tokens, D d_in, E d_out, L d_sae, T steps.
"""

from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families.auxk import aux_ratio
from tasks.dictionaries.families.pursuit import Pursuit, pursue, pursue_orthogonally, pursued_residual
from tasks.dictionaries.families.tied import TiedDictionary
from tasks.dictionaries.gradient_config import KeptConfig
from tasks.dictionaries.kernels.products import product
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.sparse_codes import pairs_per_token, top_per_token
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths


class MatchingPursuitConfig(KeptConfig):
    """A matching pursuit dictionary; ``k`` is the number of steps, so a token has at most k latents."""

    architecture: Literal["matching_pursuit"] = "matching_pursuit"
    orthogonal: bool = False
    """Whether each step solves again for the coefficients of all selected latents: slower, lower FVU."""
    stop_below: float = Field(default=0.0, ge=0)
    """Norm of the residual at which the pursuit of a token ends, in units of the mean input norm."""
    stop_on_repeat: bool = False
    """Whether pursuit of a token ends with the first step that selects a latent again."""
    beta1: float = Field(default=0.5, ge=0, lt=1)
    """Adam's decay of the first moment."""
    beta2: float = Field(default=0.9375, ge=0, lt=1)
    """Adam's decay of the second moment."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.orthogonal and self.stop_on_repeat:
            raise ValueError("stop_on_repeat is for plain pursuit: orthogonal pursuit repeats no latent")
        return self

    def sparsity_tag(self) -> str:
        return f"{super().sparsity_tag()}-orthogonal" if self.orthogonal else super().sparsity_tag()


@ARCHITECTURES.register("matching_pursuit")
class MatchingPursuit(TiedDictionary):
    """From ``r = x - b_dec``: repeatedly subtract the part ``s d`` of the latent with the largest ``r . d``.

    A latent that is selected twice has the sum of both. With ``orthogonal`` no latent is selected twice:
    after each step all coefficients are the best non-negative ones. ``steps`` may change at inference: more
    steps never leave a larger residual. ``b_enc`` is not used.
    """

    purpose = "selects one latent after the other, each for what is left to explain"
    config: MatchingPursuitConfig
    selects_in_steps = True
    residual_threshold: Tensor

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.steps = self.config.k
        self.b_enc.requires_grad_(False)
        self.register_buffer("residual_threshold", torch.tensor(float(self.config.stop_below)))

    def saelens(self) -> SaelensForm:
        """Matching pursuit, which has no encoder and keeps the threshold among the settings."""
        settings = {
            "max_iterations": self.config.k,
            "stop_on_duplicate_support": self.config.stop_on_repeat,
            "residual_threshold": float(self.residual_threshold),
        }
        left_out = ("W_enc", "b_enc", "residual_threshold")
        return SaelensForm("matching_pursuit", left_out=left_out, settings=settings)

    def pursue(self, centred_ND: Tensor) -> Pursuit:
        """The steps of each token, without a graph."""
        x_ND, W_dec, stop_below = centred_ND.detach(), self.W_dec.detach(), float(self.residual_threshold)
        if self.config.orthogonal:
            return pursue_orthogonally(x_ND, W_dec, self.steps, stop_below=stop_below)
        repeats = self.config.stop_on_repeat
        return pursue(x_ND, W_dec, self.steps, stop_below=stop_below, stop_on_repeat=repeats)

    def encode_steps(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values, latents and the step that first selects each, all (N, T), largest value first."""
        pursuit = self.pursue(self.centred(x_ND))
        values_NT, order_NT = pursuit.merged().sort(dim=1, descending=True, stable=True)
        return values_NT, pursuit.latents.gather(1, order_NT), order_NT

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The same without the steps."""
        values_NT, latents_NT, _ = self.encode_steps(x_ND)
        return values_NT, latents_NT

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L) with at most ``steps`` positive entries in each row."""
        values_NT, latents_NT = self.encode_sparse(x_ND)
        return values_NT.new_zeros(len(x_ND), self.d_sae).scatter_add(1, latents_NT, values_NT)

    def before_training(self, state: TrainingState) -> None:
        """Convert the threshold into the units of the batch."""
        super().before_training(state)
        self.residual_threshold.fill_(self.config.stop_below * state.mean_norm)

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared norm of the last residual over the variance of the data, plus AuxK.

        The gradient passes through all steps; the selection of latents counts as fixed. The best
        coefficients for the selected latents contribute no gradient, because the residual is orthogonal to
        all of them.
        """
        centred_ND = self.centred(x_ND)
        pursuit = self.pursue(centred_ND)
        if self.config.orthogonal:
            pairs = pairs_per_token(pursuit.latents, self.d_sae)
            residual_ND = centred_ND - pairs.decode(pursuit.values.reshape(-1), self.W_dec)
        else:
            residual_ND = pursued_residual(centred_ND, self.W_dec, pursuit)
        sse = residual_ND.square().sum(dim=1).mean()
        loss = sse / state.total_variance
        parts: dict[str, Tensor] = {}
        if self.config.aux_alpha > 0:
            aux = self._revive(residual_ND.detach(), state.dead)
            loss, parts["aux_loss"] = loss + self.config.aux_alpha * aux, aux.detach()
        fired_L = torch.zeros(self.d_sae, dtype=torch.bool, device=x_ND.device)
        fired_L[pursuit.latents[pursuit.values > 0]] = True
        l0 = (pursuit.merged() > 0).sum() / len(x_ND)
        return TrainingStep(loss, sse.detach(), l0, fired_L, parts)

    def _revive(self, residual_ND: Tensor, dead_L: Tensor) -> Tensor:
        """AuxK: the directions of dead latents that fit the last residual best move towards it."""
        dead = dead_L.nonzero().squeeze(1)
        if len(dead) == 0:
            return residual_ND.new_zeros(())
        with torch.no_grad():
            fit_NL = product(residual_ND, self.W_dec[dead].T)
            n_aux = min(self.config.n_aux(self.d_in), len(dead))
            values_NK, positions_NK = top_per_token(fit_NL, n_aux)
        pairs = pairs_per_token(dead[positions_NK], self.d_sae)
        return aux_ratio(residual_ND, pairs.decode(values_NK.relu().reshape(-1), self.W_dec))

    def scaled_with_output(self) -> tuple[str, ...]:
        """Biases and the norm at which pursuit ends."""
        return (*super().scaled_with_output(), "residual_threshold")

    def feature_columns(self) -> dict[str, list[Any]]:
        """None: steps are known from codes, not from weights."""
        return {}
