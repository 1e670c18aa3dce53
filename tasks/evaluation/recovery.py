"""How many directions of one set have a match among those of another.

Shapes: A, B directions of the two sets, D width.
"""

import numpy as np
import torch
from torch import Tensor

_BLOCK = 4096


def unit_rows(rows_LD: Tensor) -> Tensor:
    """Rows at unit norm; a zero row stays zero."""
    result: Tensor = rows_LD / rows_LD.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return result


def random_directions(n: int, width: int, seed: int) -> Tensor:
    """Random unit rows (n, width) for a null; unrelated to the initial directions of any dictionary.

    Dictionaries draw theirs from torch's generator with small seeds. A null from the same generator and
    seed would consist of the initial directions of a training, and look like agreement.
    """
    rows = np.random.default_rng((seed, n, width)).standard_normal((n, width))
    return unit_rows(torch.from_numpy(rows).float())


def best_cosines(a_AD: Tensor, b_BD: Tensor) -> tuple[Tensor, Tensor]:
    """For each unit row of ``a`` the largest cosine with a unit row of ``b``, and which: both (A,).

    Blocked: memory does not grow with A.
    """
    best = [torch.max(block @ b_BD.T, dim=1) for block in torch.split(a_AD, _BLOCK)]
    return torch.cat([part.values for part in best]), torch.cat([part.indices for part in best])
