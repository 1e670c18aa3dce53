"""The training that TopK and related methods share: a fixed number of kept pairs, AuxK for dead latents."""

from abc import abstractmethod

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.families.auxk import aux_loss
from tasks.dictionaries.gradient_config import KeptConfig
from tasks.dictionaries.kernels.products import product
from tasks.dictionaries.sparse_codes import Pairs, selected_acts
from tasks.dictionaries.training_state import TrainingState, TrainingStep


class KeptDictionary(Dictionary):
    """A subclass selects the pairs of a batch to keep; only those carry values and gradients."""

    config: KeptConfig

    @abstractmethod
    def select(self, pre_NL: Tensor, state: TrainingState) -> Pairs:
        """The pairs that training keeps of one batch."""

    def keep(self, centred_ND: Tensor, state: TrainingState) -> tuple[Pairs, Tensor]:
        """The pairs that training keeps of one batch, and their pre-activations (P,); no graph.

        Override it if they can be found without the matrix of all pre-activations (N, L).
        """
        pre_NL = product(centred_ND, self.W_enc, self.b_enc)
        pairs = self.select(pre_NL, state)
        return pairs, pre_NL[pairs.tokens, pairs.latents]

    def observe(self, pairs: Pairs, acts_P: Tensor, state: TrainingState) -> None:
        """Hook: record the kept activations of one batch (no graph)."""

    def revived(self, state: TrainingState) -> Tensor:
        """Hook: which latents AuxK trains, (L,) bool; the dead ones."""
        return state.dead

    def fit(self, pairs: Pairs, acts_P: Tensor, x_ND: Tensor, y_NE: Tensor) -> tuple[Tensor, Tensor]:
        """Hook: the error of the full reconstruction (N, E) and the squared error to minimise."""
        error_NE = y_NE - self.add_offset(pairs.decode(acts_P, self.W_dec), x_ND)
        return error_NE, error_NE.square().sum(dim=1).mean()

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error over the variance of the data, plus ``aux_alpha`` times AuxK."""
        with torch.no_grad():
            centred_ND = self.centred(x_ND)
            pairs, pre_P = self.keep(centred_ND, state)
        acts_P = selected_acts(centred_ND, self.W_enc, self.b_enc, self.centre(), pre_P, pairs)
        error_NE, fit = self.fit(pairs, acts_P, x_ND, y_NE)
        sse = error_NE.detach().square().sum(dim=1).mean()
        aux = sse.new_zeros(())
        if self.config.aux_alpha > 0:
            n_aux = self.config.n_aux(self.d_in)
            aux = aux_loss(self, centred_ND, error_NE.detach(), self.revived(state), n_aux)
        loss = fit / state.total_variance + self.config.aux_alpha * aux
        kept_P = acts_P.detach()
        self.observe(pairs, kept_P, state)
        l0 = (kept_P > 0).sum() / len(x_ND)
        return TrainingStep(loss, sse, l0, pairs.fired(kept_P), {"aux_loss": aux.detach()})
