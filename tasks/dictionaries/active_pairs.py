"""The pairs of a batch with positive pre-activations, if they are few enough to list.

Legend: N tokens, D d_in, L d_sae, P pairs.
"""

import torch
from torch import Tensor

from tasks.dictionaries.kernels.products import product, token_slices
from tasks.dictionaries.sparse_codes import Pairs, n_above
from tasks.dictionaries.sparse_encoding import encode_above

_LARGEST_SHARE = 0.06
"""Share of active latents up to which losses on pairs are faster than on dense codes."""


@torch.no_grad()
def active_pairs(centred_ND: Tensor, W_enc: Tensor, b_enc: Tensor) -> tuple[Pairs, Tensor] | None:
    """Pairs with ``centred @ W_enc + b_enc > 0`` and those values (P,); None if dense codes are faster.

    The first tokens decide which.
    """
    first = next(token_slices(centred_ND, W_enc.shape[1]))
    pre_NL = product(centred_ND[first], W_enc, b_enc)
    if float(n_above(pre_NL, 0.0)) > _LARGEST_SHARE * pre_NL.numel():
        return None
    return encode_above(centred_ND, W_enc, b_enc)
