"""Finds the reason why a loss or a gradient is not finite: the first tensor that is not."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from catalog.errors import UserError

_EXTREME = 1e15
"""Squares of values beyond it overflow float32 when they are summed."""


class NonFiniteLoss(UserError):
    """The loss became NaN or infinite."""


def cause(
    parameters: Sequence[tuple[str, nn.Parameter]], x_ND: Tensor, y_NE: Tensor, terms: Mapping[str, Tensor]
) -> str:
    """One clause that names the first cause: the data, a parameter, a gradient, a term of the loss."""
    largest = max(float(x_ND.abs().max()), float(y_NE.abs().max()))
    if largest > _EXTREME:
        return f"the batch holds values up to {largest:.2g}"
    for name, parameter in parameters:
        if not _is_finite(parameter):
            return f"the parameter {name} holds values that are not finite"
    for name, term in terms.items():
        if not _is_finite(term):
            return f"its term {name} is {float(term):g}"
    for name, parameter in parameters:
        if parameter.grad is not None and not _is_finite(parameter.grad):
            return f"the gradient of {name} holds values that are not finite"
    return "the gradients are too large to be summed"


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())
