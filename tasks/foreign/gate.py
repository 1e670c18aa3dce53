"""The import gate: does a foreign dictionary do on this model what a dictionary should?

A few thousand tokens run through the model and the dictionary. The gate measures FVU, L0 and the share of
latents that never fire. It then reads the file in other ways, one convention after the other: neighbouring
layers and hookpoints, normalisations, b_dec, norms of directions, transposed matrices, fewer latents. A
reading that leaves clearly less variance unexplained is the setting that fits. A dictionary as given is
verified only if there is no such reading, and if it beats the mean and a random dictionary of the same k.
Neighbouring layers can be so similar that a small dictionary does equally well on both; then the hookpoint
that the file names counts.

Legend: N tokens, D d_in, E d_out, L d_sae.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from catalog.errors import UserError
from tasks.common.config import StrictConfig
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.metrics import MetricName, ReconstructionSums
from tasks.foreign.alternatives import (
    Alternative,
    alternatives,
    is_sparsity,
    read_as,
    settings,
)
from tasks.foreign.assembly import assemble
from tasks.foreign.certificate import Certificate, Figures, Tried
from tasks.foreign.folding import unfold_signs
from tasks.foreign.reading import ReadingConfig
from tasks.foreign.record import Foreign
from tasks.foreign.sample import Hookpoints, Sample
from tasks.measures.controls import fit_random

_CODES_PER_BATCH = 2**24
_ROUNDS = 3
"""A reading differs from what the file says in position, normalisation and sparsity: one change a round."""
_NEARLY = 1.15
"""Sparsity settings within 15 % of the best FVU count as alike: a sample does not tell them apart."""
_NOTHING_LEFT = 1e-3
"""With 0.1 % of the variance left (an identity, a whole PCA) no change can gain."""


class GateConfig(StrictConfig):
    """How an import is checked."""

    n_tokens: int = Field(default=4_096, ge=64)
    """Tokens the dictionary is measured on."""
    n_quick_tokens: int = Field(default=1_024, ge=64)
    """Tokens each other way to read it is measured on."""
    min_gain: float = Field(default=0.2, gt=0, lt=1)
    """Another reading fits better when it leaves this share less unexplained, or at other hookpoints
    explains this share more."""
    seed: int = 0
    """Seed of the random dictionary it is compared with."""


class _Reading(NamedTuple):
    """A way to read the file, at a hookpoint."""

    hookpoints: Hookpoints
    reading: ReadingConfig
    fvu: float


@torch.no_grad()
def examine(
    foreign: Foreign,
    reading: ReadingConfig,
    hookpoints: Hookpoints,
    sample: Sample,
    config: GateConfig,
    named: Hookpoints | None = None,
) -> Certificate:
    """Measure a dictionary as given and under other readings, and decide whether it is verified.

    Args:
        foreign: The record as the file states it.
        reading: Settings of the user.
        hookpoints: Those that the user names, or those of the file.
        sample: Activations there and at neighbouring hookpoints.
        config: Sizes, and the gain that is required.
        named: Hookpoints that the file names; others must fit clearly better to be verified.

    Raises:
        UserError: when the widths differ or the settings do not go together.
    """
    given = check_widths(read_as(foreign, reading, sample.inputs_of(hookpoints)), hookpoints, sample)
    dictionary = assemble(given)
    figures = measure(dictionary, *sample.seen_by(dictionary, hookpoints))
    random_fvu = _random_fvu(unfold_signs(given), hookpoints, sample, figures, config)
    quick = sample.first(config.n_quick_tokens)
    best, tried = _search(foreign, reading, hookpoints, quick, config)
    fits_better = (best.hookpoints, best.reading) != (hookpoints, reading) and best.fvu < 1
    reason = _fault(given, figures, random_fvu, fits_better=fits_better)
    if reason is None and named is not None:
        best = _as_named(foreign, reading, hookpoints, named, quick, config) or best
        if best.hookpoints != hookpoints:
            reason = f"its file names {named.name()}, and it is not clearly better here"
    fitting = _difference(best, reading, hookpoints) if best.fvu < 1 else {}
    return Certificate(
        verified=reason is None,
        reason=reason,
        hookpoints=hookpoints,
        settings=settings(reading),
        figures=figures,
        random_fvu=random_fvu,
        fitting=fitting,
        fitting_fvu=best.fvu if fitting else None,
        tried=tried,
    )


def measure(dictionary: Dictionary, x_ND: Tensor, y_NE: Tensor) -> Figures:
    """FVU, L0 and unseen latents on the given tokens."""
    sums, n_active = ReconstructionSums(), 0
    seen_L = torch.zeros(dictionary.d_sae, dtype=torch.bool)
    size = max(_CODES_PER_BATCH // dictionary.d_sae, 1)
    for x, y in zip(torch.split(x_ND, size), torch.split(y_NE, size), strict=True):
        acts_NL = dictionary.encode(x)
        active_NL = acts_NL > 0
        n_active += int(active_NL.sum())
        seen_L |= active_NL.any(dim=0)
        sums.add(y, dictionary.decode(acts_NL, x))
    fvu = sums.values()[MetricName("fvu")]
    unseen = 1 - float(seen_L.float().mean())
    return Figures(float("inf") if fvu is None else fvu, n_active / len(x_ND), unseen, len(x_ND))


def check_widths(foreign: Foreign, hookpoints: Hookpoints, sample: Sample) -> Foreign:
    """Refuse a dictionary whose widths are not those of the hookpoints; returns it.

    Raises:
        UserError: naming both widths.
    """
    for names, width, verb in (
        (hookpoints.inputs, foreign.d_in, "reads"),
        (hookpoints.outputs, foreign.d_out, "writes"),
    ):
        there = sum(sample.width(name) for name in names)
        if there != width:
            raise UserError(
                f"{foreign.source} {verb} activations of width {width}, {' and '.join(names)} here "
                f"has {there}: choose the model and the hookpoint that it was made for"
            )
    return foreign


def _search(
    foreign: Foreign, reading: ReadingConfig, hookpoints: Hookpoints, sample: Sample, config: GateConfig
) -> tuple[_Reading, list[Tried]]:
    """The best reading, found by changing one thing at a time as long as that gains enough."""
    best = _Reading(hookpoints, reading, _fvu(foreign, reading, hookpoints, sample)[0])
    tried: list[Tried] = []
    for _ in range(_ROUNDS):
        candidates: list[tuple[Alternative | None, _Reading]] = []
        for other in sample.neighbours(best.hookpoints):
            fvu, l0 = _fvu(foreign, best.reading, other, sample)
            candidates.append((None, _Reading(other, best.reading, fvu)))
            ((setting, value),) = _changes(best.hookpoints, other).items()
            tried.append(Tried(setting, value, fvu, l0))
        for alternative in alternatives(foreign, best.reading, sample.inputs_of(best.hookpoints)):
            fvu, l0 = _fvu(foreign, alternative.reading, best.hookpoints, sample)
            candidates.append((alternative, _Reading(best.hookpoints, alternative.reading, fvu)))
            tried.append(Tried(alternative.setting, alternative.value, fvu, l0))
        found = _best(candidates)
        lacks_threshold = read_as(foreign, best.reading, sample.inputs_of(best.hookpoints)).lacks_threshold
        if found is None or not (lacks_threshold or _is_gain(best, found, config.min_gain)):
            break
        best = found
    return best, tried


def _as_named(
    foreign: Foreign,
    reading: ReadingConfig,
    hookpoints: Hookpoints,
    named: Hookpoints,
    sample: Sample,
    config: GateConfig,
) -> _Reading | None:
    """The hookpoint that the file names, unless another is clearly better."""
    if not sample.can_move(hookpoints, named):
        return None
    here, there = (_Reading(at, reading, _fvu(foreign, reading, at, sample)[0]) for at in (hookpoints, named))
    return there if there.fvu < 1 and not _is_gain(there, here, config.min_gain) else None


def _is_gain(best: _Reading, found: _Reading, least: float) -> bool:
    """Whether a reading leaves clearly less unexplained.

    At another hookpoint it is enough that clearly more is explained: a dictionary is best where it was
    trained, and one that explains little must not pass for the layer next to it. If next to nothing is
    unexplained (an identity, all components of a PCA) nothing can be gained.
    """
    if best.fvu < _NOTHING_LEFT:
        return False
    if (
        found.hookpoints != best.hookpoints
        and 1 - found.fvu >= (1 + least) * (1 - best.fvu)
        and found.fvu < 1
    ):
        return True
    return found.fvu <= (1 - least) * best.fvu


def _best(candidates: Sequence[tuple[Alternative | None, _Reading]]) -> _Reading | None:
    """The lowest FVU; of readings with another number of latents the sparsest that is nearly as good."""
    if not candidates:
        return None
    winner, best = min(candidates, key=lambda candidate: candidate[1].fvu)
    if winner is None or not is_sparsity(winner):
        return best
    same = [
        (alternative, found)
        for alternative, found in candidates
        if alternative is not None and is_sparsity(alternative) and found.fvu <= _NEARLY * best.fvu
    ]
    by_k = [found for alternative, found in same if alternative.setting == "k"]
    return by_k[0] if by_k else same[0][1]


def _fvu(
    foreign: Foreign, reading: ReadingConfig, hookpoints: Hookpoints, sample: Sample
) -> tuple[float, float]:
    dictionary = assemble(read_as(foreign, reading, sample.inputs_of(hookpoints)))
    figures = measure(dictionary, *sample.seen_by(dictionary, hookpoints))
    return figures.fvu, figures.l0


def _random_fvu(
    foreign: Foreign, hookpoints: Hookpoints, sample: Sample, figures: Figures, config: GateConfig
) -> float | None:
    if foreign.kind == "transcoder":
        return None
    x_ND = sample.inputs(hookpoints)
    random = fit_random(x_ND, max(round(figures.l0), 1), foreign.d_sae, config.seed)
    return measure(random, x_ND, x_ND).fvu


def _fault(foreign: Foreign, figures: Figures, random_fvu: float | None, *, fits_better: bool) -> str | None:
    if foreign.lacks_threshold:
        return "the file has no threshold, without which every positive activation counts"
    if not figures.fvu < 1:
        return "it explains less than the mean of the activations"
    if fits_better:
        return "read otherwise it explains clearly more"
    if random_fvu is not None and figures.fvu >= random_fvu:
        return f"it is no better than random directions (FVU {random_fvu:.3g})"
    return None


def _difference(best: _Reading, reading: ReadingConfig, hookpoints: Hookpoints) -> dict[str, Any]:
    changed = {
        name: value for name, value in settings(best.reading).items() if value != getattr(reading, name)
    }
    return {**({} if best.hookpoints == hookpoints else _changes(hookpoints, best.hookpoints)), **changed}


def _changes(hookpoints: Hookpoints, other: Hookpoints) -> dict[str, str]:
    """The options with which a user selects the other hookpoint."""
    said = {"model": "+".join(other.models)} if other.models != hookpoints.models else {}
    moved = (other.reads, other.writes) != (hookpoints.reads, hookpoints.writes)
    return {**said, **({"hookpoint": other.name()} if moved else {})}
