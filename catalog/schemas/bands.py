"""The names of ``band`` in ``examples``: strongest contexts, quantile bands of strength, silent controls."""

import re
from collections.abc import Iterable
from typing import Final

TOP_BAND, RANDOM_BAND, NEIGHBOUR_BAND = "top", "random", "neighbour"
SILENT_BANDS = (RANDOM_BAND, NEIGHBOUR_BAND)
DEFAULT_BANDS: Final = 5
"""Quantile bands of a mining that does not say how many, and of features mined by earlier releases."""
_QUANTILE = re.compile(r"q([1-9][0-9]?)")


def quantile_bands(n: int) -> tuple[str, ...]:
    """The names of ``n`` equal parts by activation, strongest first: ``q1`` to ``qn``."""
    return tuple(f"q{number}" for number in range(1, n + 1))


def quantile_number(band: str) -> int | None:
    """The number of a quantile band, counted from 1; None for the other bands."""
    found = _QUANTILE.fullmatch(band)
    return int(found[1]) if found else None


def firing_bands(present: Iterable[str]) -> tuple[str, ...]:
    """The bands among ``present`` in which the feature fires, strongest first."""
    names = set(present)
    numbers = sorted(number for name in names if (number := quantile_number(name)) is not None)
    return (*((TOP_BAND,) if TOP_BAND in names else ()), *(f"q{number}" for number in numbers))
