"""Fidelity with the outputs of several layers replaced at once: the replacement model of a transcoder.

Legend: B sequences, T context, N valid tokens, D width read, E width written, all layers side by side.

One forward pass goes through all layers. The value at a written hookpoint is computed from what the same
pass has read before: after a replaced layer everything follows from the replacement, as in the replacement
model of Ameisen et al. 2025 ("Circuit Tracing"). Attention and norms are those of this pass, not frozen to
the unmodified one, and there are no error terms. Both ablations also cover all written hookpoints at once.

A control that would read later layers too (one linear map for all) gets their mean in place of values that
are not known yet. A cross-layer transcoder never reads them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import splice, watch
from tasks.activations.text.packing import PackedTokens
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.widths import Widths
from tasks.measures.fidelity import (
    Batch,
    Replacement,
    measure_spliced,
    replace_valid,
    why_unmeasurable,
)
from tasks.measures.fidelity_sums import Fidelity


class Layers(NamedTuple):
    """Hookpoints that are replaced together, and those from which the replacements are computed."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    """As many; each is computed from those read up to its own."""
    widths: Widths
    mean_D: Tensor
    """Mean of the inputs over the train tokens on which controls are fitted."""
    mean_E: Tensor
    """The same of the outputs, for the mean ablation."""


def measure_layers(
    language_model: LanguageModel,
    tokens: PackedTokens,
    rows: NDArray[Any],
    layers: Layers,
    replacements: Mapping[str, Replacement],
    *,
    seed: int = 0,
    ablate: bool = True,
    listener: ProgressListener = silent,
) -> Fidelity:
    """Run the sequences ``rows`` unmodified, with each replacement, and with both ablations.

    Args:
        language_model: The model the activations came from.
        tokens: The packed tokens of the activation set.
        rows: Sequences to run, of the eval split.
        layers: Where values are read and replaced.
        replacements: By name, maps from all that is read (N, D) to all that is written (N, E). Each is asked
            once per layer, and its answer for that layer is used.
        seed: Chooses the masked tokens of a masked model.
        ablate: Whether to run the ablations.
        listener: Called after each run of the model with the number of sequences.
    """

    def splicing(batch: Batch) -> Callable[[Replacement], AbstractContextManager[None]]:
        return partial(_spliced, language_model, layers, batch.valid_BT)

    arguments = (language_model, tokens, rows, layers.mean_E, replacements, splicing, seed, ablate)
    return measure_spliced(*arguments, listener=listener)


@torch.no_grad()
def why_not_in_layers(
    language_model: LanguageModel, reads: tuple[str, ...], writes: tuple[str, ...]
) -> str | None:
    """Why these hookpoints cannot be replaced in one forward pass, or None."""
    for hookpoint in writes:
        reason = why_unmeasurable(language_model, hookpoint)
        if reason is not None:
            return reason
    with watch(language_model, [*reads, *writes]) as seen:
        language_model.model(input_ids=torch.zeros((1, 2), dtype=torch.long, device=language_model.device))
    order = list(seen)
    for read, written in zip(reads, writes, strict=True):
        if order.index(read) > order.index(written):
            return f"{read} comes after {written}, which is made from it"
    return None


@contextmanager
def _spliced(
    language_model: LanguageModel, layers: Layers, valid_BT: Tensor, replace: Replacement
) -> Iterator[None]:
    """Within the context one forward pass continues with the replacement's output at every hookpoint."""
    unknown = torch.split(layers.mean_D, list(layers.widths.reads))

    def written(number: int, value_NE: Tensor) -> Tensor:
        x_ND = torch.cat(
            [
                seen[name][valid_BT].float() if name in seen else mean.to(value_NE).expand(len(value_NE), -1)
                for name, mean in zip(layers.reads, unknown, strict=True)
            ],
            dim=1,
        )
        return torch.split(replace(x_ND), list(layers.widths.writes), dim=1)[number]

    with watch(language_model, layers.reads) as seen, ExitStack() as splices:
        for number, hookpoint in enumerate(layers.writes):
            put = partial(replace_valid, valid_BT, partial(written, number))
            splices.enter_context(splice(language_model, hookpoint, put))
        yield
