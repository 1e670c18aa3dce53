"""Whether a metric left the range of its past nights.

A new value x is out if |x - median| > max(k(n) * 1.4826 * MAD, floor): median and median absolute deviation
of the last n values, at most `MOST`. This is the modified z-score of Iglewicz and Hoaglin (How to Detect and
Handle Outliers, 1993) with a factor that depends on n in place of 3.5: k(n) is the 99 % quantile of
|x - median| / (1.4826 * MAD) where x and the n values are independent normal numbers (two million draws for
each n). So at most 1 % of new values are out where nothing drifts and noise is normal; under Laplace noise
it is 1.4 % at n = 5 and 4.7 % at n = 20. One wild night among the last five does not widen the range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

MAD_TO_SIGMA = 1.4826
FEWEST = 5
"""Fewer values say too little of their spread."""
MOST = 20
"""After a lasting shift the range follows once most of the last values lie after it."""
FACTORS = (14.55, 8.08, 7.75, 5.93, 5.78, 4.94, 4.89, 4.42, 4.37, 4.07, 4.05, 3.84, 3.81, 3.65, 3.65, 3.53)
"""k(n) for n = 5 to 20."""
RELATIVE_FLOOR = 0.02
ABSOLUTE_FLOOR = 0.005
"""A change by less than 2 % of the expected value, or less than 0.005, is no alarm in a steady series."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Where the next value of a metric is expected."""

    expected: float
    tolerance: float
    n: int
    """Values on which it is based."""

    def is_out(self, value: float) -> bool:
        """Whether a value is further from the expected one than tolerated."""
        return abs(value - self.expected) > self.tolerance


def expectation(past: Sequence[float]) -> Expectation | None:
    """What earlier values, oldest first, let expect; None if there are fewer than `FEWEST`."""
    last = list(past)[-MOST:]
    if len(last) < FEWEST:
        return None
    expected = median(last)
    spread = MAD_TO_SIGMA * median(abs(value - expected) for value in last)
    floor = max(RELATIVE_FLOOR * abs(expected), ABSOLUTE_FLOOR)
    return Expectation(expected, max(FACTORS[len(last) - FEWEST] * spread, floor), len(last))
