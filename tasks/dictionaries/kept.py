"""The training that TopK and its relatives share: a fixed number of kept pairs, AuxK for the dead."""

from abc import abstractmethod

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary, TrainingState, TrainingStep
from tasks.dictionaries.config import KeptConfig
from tasks.dictionaries.revival import aux_loss
from tasks.dictionaries.sparse import Pairs, selected_acts


class KeptDictionary(Dictionary):
    """A subclass says which pairs of a batch are kept; only those carry values and gradients."""

    config: KeptConfig

    @abstractmethod
    def select(self, pre_NL: Tensor) -> Pairs:
        """The pairs that training keeps of one batch."""

    def observe(self, acts_P: Tensor, state: TrainingState) -> None:
        """Hook: take note of the kept activations of one batch (no graph)."""

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Squared error over the variance of the data, plus ``aux_alpha`` times AuxK."""
        with torch.no_grad():
            centred_ND = self.centred(x_ND)
            pre_NL = torch.addmm(self.b_enc, centred_ND, self.W_enc)
            pairs = self.select(pre_NL)
        acts_P = selected_acts(centred_ND, self.W_enc, self.b_enc, self.centre(), pre_NL, pairs)
        error_NE = y_NE - self.add_offset(pairs.decode(acts_P, self.W_dec), x_ND)
        sse = error_NE.square().sum(dim=1).mean()
        aux = sse.new_zeros(())
        if self.config.aux_alpha > 0:
            n_aux = self.config.n_aux(self.d_in)
            aux = aux_loss(self, centred_ND, error_NE.detach(), pre_NL, state.dead, n_aux)
        loss = sse / state.total_variance + self.config.aux_alpha * aux
        kept_P = acts_P.detach()
        self.observe(kept_P, state)
        l0 = (kept_P > 0).sum() / len(x_ND)
        return TrainingStep(loss, sse.detach(), l0, pairs.fired(kept_P), {"aux_loss": aux.detach()})
