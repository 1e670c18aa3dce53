"""The heads and source tokens of a feature of ``attn_z``.

Legend: L d_sae, D width of attn_z (heads concatenated), H heads, G key-value heads, d head width, T context
(destinations), S context (sources), E firings.

The direct feature attribution of source s to feature i at destination t through head h is
``pattern[h, t, s] * (value[s, g(h)] . W_enc[head h, i])``; over all sources and heads it adds up to the
pre-activation less a constant (Kissane et al. 2024, arXiv 2406.17759).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.attention_patterns import (
    AttentionParts,
    attention_block,
    attention_parts,
    n_attention_heads,
)
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.stream import sample_rows

_FIRINGS_PER_SEQUENCE = 4_096
"""The strongest count; a bound on the time of a sequence in which everything fires."""
_NUMBERS_AT_ONCE = 2**25


def head_shares(w_dec_LD: Tensor, n_heads: int) -> Tensor:
    """Norm of each head's part of a decoder row over the sum of these norms: (L, H), rows sum to 1."""
    norms_LH: Tensor = w_dec_LD.reshape(len(w_dec_LD), n_heads, -1).norm(dim=2)
    return norms_LH / norms_LH.sum(dim=1, keepdim=True).clamp_min(1e-30)


def direct_attribution(
    patterns_HTS: Tensor, values_SGd: Tensor, weights_ED: Tensor, destinations_E: Tensor
) -> Tensor:
    """The exact contribution of each source through each head to a product with ``z``: (E, H, S).

    Args:
        patterns_HTS: Attention of one sequence.
        values_SGd: Its values, one row per key-value head.
        weights_ED: The encoder column of its feature for each firing.
        destinations_E: The token of each firing.
    """
    n_heads, n_groups = len(patterns_HTS), values_SGd.shape[1]
    weights_EGRd = weights_ED.reshape(len(weights_ED), n_groups, n_heads // n_groups, -1)
    products_EHS = torch.einsum("egrd,sgd->egrs", weights_EGRd, values_SGd).flatten(1, 2)
    return products_EHS * patterns_HTS[:, destinations_E].transpose(0, 1)


@dataclass
class SourceStatistics:
    """The source tokens of a dictionary's features, weighted by activation."""

    d_sae: int
    features: list[NDArray[Any]] = field(default_factory=list)
    offsets: list[NDArray[Any]] = field(default_factory=list)
    entropies: list[NDArray[Any]] = field(default_factory=list)
    weights: list[NDArray[Any]] = field(default_factory=list)

    def add(self, features_E: Tensor, values_E: Tensor, destinations_E: Tensor, sources_ES: Tensor) -> None:
        """Record firings with the contribution of every source, summed over heads."""
        shares_ES = sources_ES.relu()
        shares_ES = shares_ES / shares_ES.sum(dim=1, keepdim=True).clamp_min(1e-30)
        self.features.append(features_E.cpu().numpy())
        self.offsets.append((sources_ES.argmax(dim=1) - destinations_E).cpu().numpy())
        self.entropies.append(torch.special.entr(shares_ES).sum(dim=1).cpu().numpy())
        self.weights.append(values_E.cpu().numpy())

    def columns(self) -> dict[str, list[Any]]:
        """Most common offset of the strongest source and mean entropy in nats; None if nothing fired."""
        offset: list[int | None] = [None] * self.d_sae
        entropy: list[float | None] = [None] * self.d_sae
        if self.features:
            features_E, offsets_E, entropies_E, weights_E = (
                np.concatenate(parts) for parts in (self.features, self.offsets, self.entropies, self.weights)
            )
            total_L = np.bincount(features_E, weights_E, self.d_sae)
            sum_L = np.bincount(features_E, weights_E * entropies_E, self.d_sae)
            pairs, place_E = np.unique(np.stack([features_E, offsets_E]), axis=1, return_inverse=True)
            weight = np.bincount(place_E.reshape(-1), weights_E)
            for number in np.lexsort((-np.abs(pairs[1]), weight)).tolist():  # the heaviest, nearest one last
                offset[pairs[0, number]] = int(pairs[1, number])
            for feature in np.flatnonzero(total_L).tolist():
                entropy[feature] = float(sum_L[feature] / total_L[feature])
        return {"dfa_offset": offset, "dfa_entropy": entropy}


def attention_columns(
    dictionary: Dictionary,
    language_model: LanguageModel,
    hookpoint: str,
    tokens: PackedTokens,
    n_sequences: int = 64,
) -> dict[str, list[Any]]:
    """Columns of ``features`` for a dictionary of ``blocks.I.attn_z``; nothing for other hookpoints.

    Head shares follow from the weights. Offset and entropy are measured on sequences spread evenly over the
    set, on the strongest 4,096 firings of each. A dictionary that normalises each token or reads context
    has none, because its pre-activations are not a sum over sources.

    Raises:
        UserError: for a model whose attention patterns cannot be had.
    """
    block = attention_block(hookpoint)
    if block is None:
        return {}
    n_heads = n_attention_heads(language_model)
    columns: dict[str, list[Any]] = {"head_shares": head_shares(dictionary.W_dec.detach(), n_heads).tolist()}
    if dictionary.config.input_norm != "none" or dictionary.reads_context:
        return columns
    statistics = SourceStatistics(dictionary.d_sae)
    for row in sample_rows(np.arange(tokens.n_sequences), n_sequences).tolist():
        parts = attention_parts(language_model, block, tokens, np.array([row]))
        _add_sequence(statistics, dictionary, parts, np.asarray(tokens.valid[row], dtype=bool))
    return columns | statistics.columns()


@torch.no_grad()
def _add_sequence(
    statistics: SourceStatistics, dictionary: Dictionary, parts: AttentionParts, valid_T: NDArray[Any]
) -> None:
    device = dictionary.W_enc.device
    patterns_HTS, values_SGd = parts.patterns_BHTS[0].to(device), parts.values_BSGd[0].to(device)
    position_N = torch.from_numpy(np.flatnonzero(valid_T)).to(device)
    if not len(position_N):
        return
    values_NK, indices_NK = dictionary.encode_sparse(parts.z[0].to(device)[position_N])
    strongest_E = values_NK.flatten().topk(min(_FIRINGS_PER_SEQUENCE, values_NK.numel())).indices
    strongest_E = strongest_E[values_NK.flatten()[strongest_E] > 0]
    step = max(_NUMBERS_AT_ONCE // (patterns_HTS.shape[0] * patterns_HTS.shape[1]), 1)
    for chosen_E in torch.split(strongest_E, step):
        features_E, destinations_E = (
            indices_NK.flatten()[chosen_E],
            position_N[chosen_E // values_NK.shape[1]],
        )
        weights_ED = dictionary.W_enc.T[features_E]
        by_head_EHS = direct_attribution(patterns_HTS, values_SGd, weights_ED, destinations_E)
        activations_E = values_NK.flatten()[chosen_E]
        statistics.add(features_E, activations_E, destinations_E, by_head_EHS.sum(dim=1))
