"""Encoding in slices of tokens: keeps entries of the pre-activations without the full matrix (N, L).

Legend: N tokens, D d_in, L d_sae, K kept per token, P pairs. A slice stays in the cache from its product to
    the
selection, and memory does not grow with the number of latents times the number of tokens.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tasks.dictionaries.kernels.products import product, token_slices
from tasks.dictionaries.sparse_codes import Pairs, entries_above, largest_pairs, top_per_token

Choice = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Maps pre-activations (N, L) and k to values and latents, both (N, K), largest first."""


@torch.no_grad()
def encode_top(
    x_ND: Tensor, W_enc: Tensor, b_enc: Tensor, k: int, choose: Choice = top_per_token
) -> tuple[Tensor, Tensor]:
    """The k largest of every row of ``x @ W_enc + b_enc``, or those that ``choose`` selects: both (N, K)."""
    slices = token_slices(x_ND, W_enc.shape[1])
    parts = [choose(product(x_ND[part], W_enc, b_enc), k) for part in slices]
    return torch.cat([values for values, _ in parts]), torch.cat([latents for _, latents in parts])


@torch.no_grad()
def encode_above(x_ND: Tensor, W_enc: Tensor, b_enc: Tensor, floor: float = 0.0) -> tuple[Pairs, Tensor]:
    """All entries of ``x @ W_enc + b_enc`` strictly above the floor: the pairs, and their values (P,)."""
    counts_N, latents_P, values_P = _slices_above(x_ND, W_enc, b_enc, floor)
    tokens_P = torch.arange(len(counts_N), device=counts_N.device).repeat_interleave(counts_N)
    return Pairs(tokens_P, latents_P, counts_N.cumsum(0) - counts_N, W_enc.shape[1]), values_P


@torch.no_grad()
def encode_top_of_batch(
    x_ND: Tensor, W_enc: Tensor, b_enc: Tensor, n_keep: int, floor: float = 0.0
) -> tuple[Pairs, Tensor]:
    """The ``n_keep`` largest positive entries of ``x @ W_enc + b_enc``: the pairs, and their values (P,).

    Ties go to the earlier entry. ``floor`` is a guess of a value that more than ``n_keep`` entries exceed;
    0 means no guess, and the first slice makes one. A wrong guess costs time, not correctness.
    """
    n_entries = len(x_ND) * W_enc.shape[1]
    if floor <= 0:
        first = next(token_slices(x_ND, W_enc.shape[1]))
        floor = 0.9 * _value_at_share(product(x_ND[first], W_enc, b_enc), n_keep / n_entries)
    for guess in (floor, floor / 2, 0.0):
        counts_N, latents_P, values_P = _slices_above(x_ND, W_enc, b_enc, max(guess, 0.0))
        if len(values_P) >= n_keep or guess <= 0:
            break
    return largest_pairs(counts_N, latents_P, values_P, n_keep, W_enc.shape[1])


def _slices_above(x_ND: Tensor, W_enc: Tensor, b_enc: Tensor, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    slices = token_slices(x_ND, W_enc.shape[1])
    found = [entries_above(product(x_ND[part], W_enc, b_enc), floor) for part in slices]
    counts_N, latents_P, values_P = (torch.cat(parts) for parts in zip(*found, strict=True))
    return counts_N, latents_P, values_P


def _value_at_share(values: Tensor, share: float) -> float:
    """The value that about this share of the entries exceeds."""
    n_above = min(max(round(share * values.numel()), 1), values.numel())
    return float(torch.kthvalue(values.flatten(), values.numel() - n_above + 1).values)
