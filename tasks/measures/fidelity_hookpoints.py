"""Fidelity of a crosscoder: its part of the output replaces each of its hookpoints in turn.

A latent of a crosscoder needs all hookpoints that are read, including later ones, so no forward pass could
contain it at all of them. As in published comparisons of models, the inputs are read from unmodified runs
of all models on the same tokens, and one model continues with one hookpoint replaced.

Legend: N tokens, D width of all hookpoints together.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture, splice
from tasks.activations.reading.resume import Prefix
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PackedTokens
from tasks.common.progress import ProgressListener, silent
from tasks.measures.fidelity import (
    Batch,
    Replacement,
    measure_spliced,
    replace_valid,
)
from tasks.measures.fidelity_sums import Fidelity


class Spot(NamedTuple):
    """A hookpoint of a model."""

    language_model: LanguageModel
    hookpoint: str


def measure_hookpoint(
    spots: Sequence[Spot],
    number: int,
    tokens: PackedTokens,
    rows: NDArray[Any],
    means: Sequence[Tensor],
    replacements: Mapping[str, Replacement],
    *,
    seed: int = 0,
    ablate: bool = True,
    listener: ProgressListener = silent,
) -> Fidelity:
    """Run the sequences ``rows`` through one model, with one hookpoint replaced.

    Args:
        spots: All hookpoints that are read and written, in their order.
        number: Index of the replaced one.
        tokens: The packed tokens, the same for all models.
        rows: Sequences to run, of the eval split.
        means: Mean at each hookpoint over the train tokens that controls are fitted on.
        replacements: By name, maps from all that is read to all that is written, both (N, D).
        seed: Chooses the masked tokens of a masked model.
        ablate: Whether to run the ablations.
        listener: Called after each run of the model with the number of sequences.
    """
    spot, widths = spots[number], [len(mean) for mean in means]

    def part(replace: Replacement, x_ND: Tensor) -> Tensor:
        return torch.split(replace(x_ND), widths, dim=1)[number]

    def splicing(batch: Batch) -> Callable[[Replacement], AbstractContextManager[Any]]:
        read_ND = _read(spots, spot.language_model, tokens, batch)

        def at_hookpoint(replace: Replacement) -> AbstractContextManager[Any]:
            value_NE = replace(read_ND)
            put = partial(replace_valid, batch.valid_BT, lambda _: value_NE)
            return splice(spot.language_model, spot.hookpoint, put)

        return at_hookpoint

    parts = {name: partial(part, replace) for name, replace in replacements.items()}
    arguments = (spot.language_model, tokens, rows, means[number], parts, splicing, seed, ablate)
    prefix = Prefix(spot.language_model, spot.hookpoint)
    return measure_spliced(*arguments, prefix=prefix, listener=listener)


def _read(spots: Sequence[Spot], scored: LanguageModel, tokens: PackedTokens, batch: Batch) -> Tensor:
    """Valid activations at all hookpoints, concatenated: (N, D); each model runs once, unmodified."""
    values: dict[int, Tensor] = {}
    for model in {id(spot.language_model): spot.language_model for spot in spots}.values():
        inputs = batch.inputs
        if model is not scored:
            inputs = {**model_inputs(model, tokens, batch.rows), "input_ids": inputs["input_ids"]}
        own = {n: spot.hookpoint for n, spot in enumerate(spots) if spot.language_model is model}
        found = capture(model, list(own.values()), inputs)
        values |= {n: found[hookpoint][batch.valid_BT].float() for n, hookpoint in own.items()}
    return torch.cat([values[n] for n in range(len(spots))], dim=1)
