"""The gradient of one batch: at once, or in parts that fit into memory, summed.

Legend: N tokens of a batch, M tokens of a part.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import Precision
from tasks.dictionaries.training_state import TrainingState, TrainingStep


def is_half(precision: Precision, device: torch.device) -> bool:
    """Whether matrix products run in bfloat16; ``auto``: on GPUs that have it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def batch_gradient(
    dictionary: Dictionary,
    x_ND: Tensor,
    y_NE: Tensor,
    state: TrainingState,
    *,
    part_tokens: int,
    n_tokens: int,
    half: bool = False,
) -> TrainingStep:
    """Add the gradient of the mean loss to the parameters; return the weighted mean of the statistics.

    The loss of each part counts by its share of ``n_tokens``, so for a method whose loss is a mean over
    tokens the parts make no difference. A method that selects or normalises within a batch does so within a
    part.

    Args:
        part_tokens: Tokens whose activations are in memory at one time.
        n_tokens: Tokens of the whole batch, of which ``x_ND`` may be one process's part.
        half: Matrix products in bfloat16; parameters, gradients and sums stay in float32.
    """
    steps: list[tuple[float, TrainingStep]] = []
    for x_MD, y_ME in _parts(x_ND, y_NE, part_tokens):
        with torch.autocast(x_ND.device.type, torch.bfloat16, enabled=half):
            step = dictionary.training_loss(x_MD, y_ME, state)
        share = len(x_MD) / n_tokens
        loss = step.loss if share == 1 else step.loss * share
        loss.backward()  # type: ignore[no-untyped-call]
        step.loss, step.sse, step.l0 = step.loss.detach(), step.sse.detach(), step.l0.detach()
        steps.append((share, step))
    return steps[0][1] if len(steps) == 1 and steps[0][0] == 1 else mean_of(steps)


def _parts(x_ND: Tensor, y_NE: Tensor, part_tokens: int) -> list[tuple[Tensor, Tensor]]:
    """Parts of equal size, the last one smaller; inputs that are their own targets stay so."""
    xs = torch.split(x_ND, part_tokens)
    return list(zip(xs, xs if y_NE is x_ND else torch.split(y_NE, part_tokens), strict=True))


def mean_of(steps: Sequence[tuple[float, TrainingStep]]) -> TrainingStep:
    """The statistics of parts, summed by their share; what fired in any part has fired."""

    def total(values: Sequence[Tensor]) -> Tensor:
        weighted = [value * share for (share, _), value in zip(steps, values, strict=True)]
        return torch.stack([value.reshape(()) for value in weighted]).sum()

    first = steps[0][1]
    return TrainingStep(
        total([step.loss for _, step in steps]),
        total([step.sse for _, step in steps]),
        total([step.l0.float() for _, step in steps]),
        torch.stack([step.fired for _, step in steps]).any(dim=0),
        {name: total([step.parts[name] for _, step in steps]) for name in first.parts},
    )
