"""The chance level of a score: the score of explanations of other features on the same items.

A language-model judge gets one explanation of another feature (a donor) per feature, because every question
costs money. One such set of answers says little about its feature (about 30 items: standard deviation 0.1),
but together they are a null for the dictionary. The chance of a feature is the mean of its own donors, shrunk
towards the mean of all donors in proportion to the noise of its few items (James-Stein estimator):

    chance_f = p + b_f (d_f - p),  b_f = t² / (t² + v_f)

with d_f the mean of the feature's donors, v_f its sampling variance, p the mean of all d_f, and t² the
variance between features that v_f does not explain. For a judge that tosses coins t² is 0 and every chance
is p. A judge that never reads the explanation gives its own explanation and a donor's the same score: t² is
above 0, and a feature that is easy for this judge has a high chance. The chance of balanced accuracy is
never below 0.5, which random answers reach, and that of precision never below the prevalence.

A value is above chance if the interval of the difference is above 0. The intervals of value and chance are
combined by squares (Zou and Donner, Statistics in Medicine 2008, as Newcombe's for two shares):
value - chance > sqrt((value - low)² + (high_c - chance)²). Of explanations without information 2.5 % are
above.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from tasks.autointerp.metrics import FLOORS, Z_95, Values

MIN_DONORS = 20
"""With fewer donors in a dictionary, chance is not known well enough to say what is above it."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Chance (F,) of every feature, and the upper end of its 95 % interval."""

    chance_F: Values
    high_F: Values


def donors_needed(shuffles: int, n_explanations: int) -> int:
    """Donors for each explanation: ``shuffles``, or more if few explanations share them."""
    if shuffles == 0 or n_explanations == 0:
        return 0
    return max(shuffles, ceil(MIN_DONORS / n_explanations))


def pooled(donor_F: Values, variance_F: Values, floor: float) -> Levels:
    """Chance levels from the mean (F,) of each feature's donors and its sampling variance (F,)."""
    mean = float(donor_F.mean())
    between = max(0.0, float(((donor_F - mean) ** 2).sum() / max(1, len(donor_F) - 1) - variance_F.mean()))
    total_F = between + variance_F
    weight_F = np.divide(between, total_F, out=np.zeros_like(total_F), where=total_F > 0)
    raw_F = mean + weight_F * (donor_F - mean)
    of_mean = float(total_F.mean()) / len(donor_F)
    deviation_F = np.sqrt(weight_F * variance_F + (1 - weight_F) ** 2 * of_mean)
    chance_F = np.maximum(raw_F, floor)
    return Levels(chance_F, np.maximum(raw_F + Z_95 * deviation_F, chance_F))


def with_chance(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Score rows of one scorer on one dictionary with their chance, from the donors in each row.

    It removes the fields ``donors`` (their values) and ``donor_variance`` (of one value, null if unknown) and
    fills ``chance``, ``chance_ci_high``, ``n_donors`` and ``above_chance``.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    done = [dict(row) for row in rows]
    for row in done:
        groups.setdefault((row["metric"], row["variant"]), []).append(row)
    for (metric, _), members in groups.items():
        _fill(members, _floor(metric, members))
    return done


def _floor(metric: str, rows: Sequence[dict[str, Any]]) -> float:
    """The value that random answers reach; the precision of such answers is the prevalence."""
    if metric == "precision":
        return max((row["prevalence"] for row in rows if row["prevalence"] is not None), default=0.0)
    return FLOORS.get(metric, 0.0)


def _fill(rows: list[dict[str, Any]], floor: float) -> None:
    donors = [row.pop("donors") for row in rows]
    variances = [row.pop("donor_variance") for row in rows]
    n_donors = sum(map(len, donors))
    chosen = [i for i, values in enumerate(donors) if values]
    for row in rows:
        row.update(chance=None, chance_ci_high=None, n_donors=n_donors, above_chance=None)
    if not chosen:
        return
    donor_F = np.asarray([np.mean(donors[i]) for i in chosen])
    has_interval = all(variances[i] is not None for i in chosen)
    variance_F = np.asarray([(variances[i] or 0.0) / len(donors[i]) for i in chosen])
    levels = pooled(donor_F, variance_F, floor) if has_interval else None
    for place, i in enumerate(chosen):
        row = rows[i]
        if row["value"] is None:
            continue
        if levels is None:
            own = len(donors[i]) >= MIN_DONORS
            row["chance"] = max(floor, float(donor_F[place] if own else donor_F.mean()))
            continue
        chance, high = float(levels.chance_F[place]), float(levels.high_F[place])
        row.update(chance=chance, chance_ci_high=high)
        if row["ci_low"] is not None and n_donors >= MIN_DONORS:
            row["above_chance"] = is_above(row["value"], row["ci_low"], chance, high)


def is_above(value: float, low: float, chance: float, chance_high: float) -> bool:
    """Whether the 95 % interval of ``value - chance`` lies above 0."""
    return bool(value - chance > np.hypot(value - low, chance_high - chance))
