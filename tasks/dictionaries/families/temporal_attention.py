"""Predicts a token's codes from earlier tokens: attention of codes over codes.

Lubana et al. 2025, arXiv 2511.01836; names of tensors and the order of operations are those of SAELens.
Legend: S sequences, T context, L d_sae, Q width of queries and keys, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tasks.dictionaries.kernels.products import product


class CodeAttention(nn.Module):
    """One layer: ``c_proj(attention(q_target(codes), k_ctx(earlier), v_ctx(earlier)))``, heads concatenated.

    A token attends to the codes of the tokens before it, and to an empty code (0) before the first one. At
    the start all weights are 0: the layer predicts nothing.
    """

    def __init__(self, d_sae: int, n_heads: int, d_keys: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.k_ctx = _Linear(d_sae, d_keys)
        self.q_target = _Linear(d_sae, d_keys)
        self.v_ctx = _Linear(d_sae, d_sae)
        self.c_proj = _Linear(d_sae, d_sae)

    def forward(self, codes_STL: Tensor, sources: "Sources") -> Tensor:
        """The prediction of each token's code from those before it: (S, T, L), of any sign."""
        earlier_STL = sources.earlier(codes_STL)
        query, key, value = (
            projected.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
            for projected in (self.q_target(codes_STL), self.k_ctx(earlier_STL), self.v_ctx(earlier_STL))
        )
        found = scaled_dot_product_attention(query, key, value, attn_mask=sources.allowed_S1TT)
        result: Tensor = self.c_proj(found.transpose(1, 2).flatten(2))
        return result


class Sources:
    """Which earlier tokens each token of some sequences may attend to.

    Position t holds the token before t. Tokens of the same segment that are not before a position attend to
    it. The first position of a segment is empty; others count if the token they hold ``counts``.

    Args:
        segment_ST: Number of the document within its sequence; attention does not cross documents.
        counts_ST: Which tokens may be attended to.
    """

    def __init__(self, segment_ST: Tensor, counts_ST: Tensor) -> None:
        first_ST = torch.ones_like(counts_ST)
        first_ST[:, 1:] = segment_ST[:, 1:] != segment_ST[:, :-1]
        self.first_ST1 = first_ST.unsqueeze(2)
        usable_ST = first_ST | counts_ST.roll(1, dims=1)
        same_STT = segment_ST.unsqueeze(2) == segment_ST.unsqueeze(1)
        self.allowed_S1TT = (same_STT & usable_ST.unsqueeze(1)).tril().unsqueeze(1)

    def earlier(self, codes_STL: Tensor) -> Tensor:
        """At each place the code of the token before, 0 at the first of a segment: (S, T, L)."""
        return codes_STL.roll(1, dims=1).masked_fill(self.first_ST1, 0)


class _Linear(nn.Linear):
    """A linear map with bias, all 0 at first; it does not use the global random numbers."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return sequence_product(input, self.weight.T, self.bias)


def sequence_product(a_STM: Tensor, b_MK: Tensor, bias_K: Tensor | None = None) -> Tensor:
    """``a @ b + bias`` of complete sequences, by the fastest product available: (S, T, K)."""
    return product(a_STM.flatten(0, 1), b_MK, bias_K).view(*a_STM.shape[:2], -1)
