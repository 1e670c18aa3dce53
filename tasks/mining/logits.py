"""The direct effect of features on the logits: tokens at both ends, and the distribution over all.

The direct effect of feature i on the logits is ``W_U' (gain * W_dec[i])``, with the gain of the final
norm folded in and every dimension of the unembedding centred over the vocabulary, so that a shift of
all logits, which changes no probability, does not count. Shapes: L features, D ``d_in``, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.models.output_projection import output_projection
from tasks.mining.logit_distribution import (
    LogitDistribution,
    LogitNull,
    joined,
    logit_distribution,
    logit_null,
    random_directions,
)

_OFF_STREAM = ("attn_z", "mlp_in", "mlp_act")
_CELLS_AT_ONCE = 32_000_000


@dataclass(frozen=True)
class Unembedding:
    """The map from residual stream to logits: ``W_U`` (D, V), final norm gain (D,), token texts (V)."""

    W_U: torch.Tensor
    final_norm_gain: torch.Tensor | None
    tokens: Sequence[str]


def unembedding_at(language_model: LanguageModel, hookpoint: str) -> Unembedding | None:
    """What a hookpoint is read through; None where no matrix leads from it to the logits."""
    w_u, gain = language_model.unembedding()
    projection = output_projection(language_model, hookpoint)
    if w_u is None or (projection is None and hookpoint.rpartition(".")[2] in _OFF_STREAM):
        return None
    if projection is not None:
        w_u, gain = (projection if gain is None else projection * gain) @ w_u, None
    return Unembedding(w_u, gain, language_model.token_texts(range(w_u.shape[1])))


@dataclass(frozen=True)
class LogitEffects:
    """Token ids and logits at both ends, strongest first: (L, n) each."""

    top_ids: np.ndarray
    top_logits: np.ndarray
    bottom_ids: np.ndarray
    bottom_logits: np.ndarray
    distribution: LogitDistribution
    null: LogitNull


def logit_effects(w_dec_LD: torch.Tensor, unembedding: Unembedding, n: int, seed: int = 0) -> LogitEffects:
    """Both ends and the distribution per feature, in blocks: the (L, V) matrix is never stored.

    ``seed`` draws the random directions of the null.
    """
    w_u_DV = _to_logits(unembedding, w_dec_LD.device)
    n_kept = min(n, w_u_DV.shape[1])
    step = max(1, _CELLS_AT_ONCE // w_u_DV.shape[1])
    ends: list[tuple[np.ndarray, ...]] = []
    distributions: list[LogitDistribution] = []
    for first in range(0, len(w_dec_LD), step):
        logits = w_dec_LD[first : first + step] @ w_u_DV
        top, bottom = logits.topk(n_kept, dim=1), logits.topk(n_kept, dim=1, largest=False)
        ends.append(tuple(t.cpu().numpy() for t in (top.indices, top.values, bottom.indices, bottom.values)))
        distributions.append(logit_distribution(logits.cpu().numpy()))
    random_RD = random_directions(w_dec_LD.shape[1], seed).to(w_u_DV.device)
    null = logit_null(logit_distribution((random_RD @ w_u_DV).cpu().numpy()))
    top_ids, top_logits, bottom_ids, bottom_logits = (
        np.concatenate(part) for part in zip(*ends, strict=True)
    )
    return LogitEffects(top_ids, top_logits, bottom_ids, bottom_logits, joined(distributions), null)


def _to_logits(unembedding: Unembedding, device: torch.device) -> torch.Tensor:
    """The centred map from what a feature writes to the logits of tokens, gain folded in: (D, V)."""
    w_u_DV = unembedding.W_U.to(device=device, dtype=torch.float32)
    w_u_DV = w_u_DV - w_u_DV.mean(dim=1, keepdim=True)
    if unembedding.final_norm_gain is not None:
        w_u_DV = unembedding.final_norm_gain.to(device=device, dtype=torch.float32)[:, None] * w_u_DV
    return w_u_DV[:, : len(unembedding.tokens)]
