"""TopK with AuxK: exactly k latents of every token (Gao et al. 2024, arXiv 2406.04093)."""

from typing import ClassVar, Literal

from torch import Tensor

from tasks.dictionaries.base import ARCHITECTURES, TrainingState
from tasks.dictionaries.config import DictionaryConfig, KeptConfig
from tasks.dictionaries.kept import KeptDictionary
from tasks.dictionaries.sparse import Pairs, encode_top, pairs_per_token, top_per_token


class TopKConfig(KeptConfig):
    """A TopK dictionary; ``k`` is the number of latents of every token."""

    architecture: Literal["topk"] = "topk"


@ARCHITECTURES.register("topk")
class TopK(KeptDictionary):
    """Keeps the k largest pre-activations of a token, then ReLU: L0 is at most k."""

    Config: ClassVar[type[DictionaryConfig]] = TopKConfig

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Exactly k columns; values that are not positive are 0."""
        values_NK, indices_NK = top_per_token(self.pre_acts(x_ND), self.config.k)
        return values_NK.relu(), indices_NK

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L) with at most k positive entries in each row."""
        values_NK, indices_NK = self.encode_sparse(x_ND)
        return values_NK.new_zeros(len(x_ND), self.d_sae).scatter(1, indices_NK, values_NK)

    def select(self, pre_NL: Tensor, state: TrainingState) -> Pairs:
        """The k largest of every token."""
        return pairs_per_token(top_per_token(pre_NL, self.config.k)[1], self.d_sae)

    def keep(self, centred_ND: Tensor, state: TrainingState) -> tuple[Pairs, Tensor]:
        """The same, slice by slice."""
        values_NK, indices_NK = encode_top(centred_ND, self.W_enc, self.b_enc, self.config.k)
        return pairs_per_token(indices_NK, self.d_sae), values_NK.reshape(-1)
