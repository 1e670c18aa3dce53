"""How often a metric raises an alarm after nights without drift, and how large a change must be for one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.measures.drift import expectation

NIGHTS = 20_000
LENGTHS = (5, 8, 10, 15, 20)
SHIFTS = (3.0, 5.0, 10.0, 20.0)


def main() -> str:
    """Two tables: false alarms by form of the noise, alarms by size of a change."""
    rng = np.random.default_rng(0)
    noises: dict[str, Callable[[Any], Any]] = {
        "normal": rng.standard_normal,
        "uniform": lambda shape: rng.uniform(size=shape),
        "Laplace": lambda shape: rng.laplace(size=shape),
        "t, 3 degrees of freedom": lambda shape: rng.standard_t(3, size=shape),
    }
    head = " | ".join(f"{n} nights" for n in LENGTHS)
    lines = [f"| noise | {head} |", "|--|" + "--|" * len(LENGTHS)]
    for name, draw in noises.items():
        shares = [_share_out(1e3 * draw((NIGHTS, n + 1)), 0.0) for n in LENGTHS]
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.2f} %" for share in shares) + " |")
    lines += ["", f"| change, in standard deviations | {head} |", "|--|" + "--|" * len(LENGTHS)]
    for shift in SHIFTS:
        shares = [_share_out(1e3 * rng.standard_normal((NIGHTS, n + 1)), 1e3 * shift) for n in LENGTHS]
        lines.append(f"| {shift:g} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
    return "\n".join(lines)


def _share_out(values: Any, shift: float) -> float:
    """Share of nights that are out, the last value of each row moved; the floor plays no part."""
    values[:, -1] += shift
    found = ((expectation(past), value) for *past, value in values.tolist())
    return sum(before is not None and before.is_out(value) for before, value in found) / len(values)
