"""Finding the setting of a method that gives the sparsity asked for, from what earlier settings gave.

A knob (a number of latents, a penalty, a frequency) and the L0 it gives are close to a power law, so the next
guess is read off a line through the nearest points in logarithms.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

_LARGEST_STEP = math.log(6.0)


class Point(NamedTuple):
    """A setting that was tried and the mean number of active latents it gave."""

    knob: float
    l0: float


class Knob(NamedTuple):
    """The setting of a method that decides its sparsity."""

    field: str
    """Name in the configuration."""
    start: float
    """First guess for one active latent per token; for L0 of them it is ``start * L0 ** (1 / power)``."""
    power: float
    """L0 grows about as knob ** power: 1 for a number of latents, negative for a penalty."""
    whole: bool = False
    """Whether it takes whole numbers alone."""
    tuned: bool = True
    """Whether realised L0 can differ from what is asked."""


def next_setting(knob: Knob, points: Sequence[Point], target: float) -> float:
    """The setting to try next.

    Args:
        knob: What is turned.
        points: What was tried, any order; settings that gave no active latent at all say only a direction.
        target: The L0 wanted.
    """
    known = [Point(math.log(p.knob), math.log(max(p.l0, 1e-3))) for p in points]
    wanted = math.log(target)
    if not known:
        guess = math.log(knob.start) + wanted / knob.power
    else:
        below = max((p for p in known if p.l0 <= wanted), key=lambda p: p.l0, default=None)
        above = min((p for p in known if p.l0 > wanted), key=lambda p: p.l0, default=None)
        if below is not None and above is not None:
            share = (wanted - below.l0) / (above.l0 - below.l0)
            guess = below.knob + share * (above.knob - below.knob)
        else:
            nearest = below or above
            assert nearest is not None
            step = (wanted - nearest.l0) / knob.power
            guess = nearest.knob + max(-_LARGEST_STEP, min(_LARGEST_STEP, step))
    value = math.exp(guess)
    return float(max(round(value), 1)) if knob.whole else float(f"{value:.6g}")


def closest(points: Sequence[Point], target: float) -> Point:
    """The point whose L0 is nearest to the target, by ratio."""
    return min(points, key=lambda p: abs(math.log(max(p.l0, 1e-3) / target)))
