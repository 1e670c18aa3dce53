"""Correlation of simulated with true activations over the tokens of all contexts.

The contexts are joined before the correlation is taken: the mean of their own correlations would not see
whether a simulation fires in the right contexts. Legend: I items, T tokens of one.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.stats import t as student

from tasks.autointerp.items import Items, Judged, Trace
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.measures import Measure, Row, common_fields
from tasks.autointerp.metrics import Interval
from tasks.autointerp.records import Rows

MIN_ITEMS = 3
"""Contexts below which there is no interval."""
_MOST = 1 - 1e-9


class Tracking(Measure):
    """Pearson correlation; no value for a constant simulation, and 0 for one of another feature's label."""

    metrics = ("correlation",)

    def rows(self, items: Items, chosen: Bools, judged: Judged, shuffled: Sequence[Judged]) -> Iterator[Row]:
        places = np.flatnonzero(chosen)
        found = [_known(one, places) for one in (judged, *shuffled)]
        values = [correlation(traces) for traces in found]
        known = np.asarray(
            [bool(judged.traces) and judged.traces[place] is not None for place in places], bool
        )
        value = values[0] if items.decidable and math.isfinite(values[0]) else None
        error = standard_error(found[0]) if value is not None else math.nan
        bounds = fisher_interval(value, error, len(found[0])) if value is not None and error > 0 else None
        donors = [place for place, traces in enumerate(found) if place and traces] if items.decidable else []
        variances = [donor_variance(found[place]) for place in donors]
        yield {
            "metric": self.metrics[0],
            **common_fields(items, chosen, known),
            "value": value,
            "ci_low": bounds.low if bounds else None,
            "ci_high": bounds.high if bounds else None,
            "donors": [values[place] if math.isfinite(values[place]) else 0.0 for place in donors],
            "donor_variance": float(np.mean(variances)) if variances else None,
            "answered_by": judged.by if value is not None else None,
        }


def _known(judged: Judged, places: Rows) -> list[Trace]:
    traces = (judged.traces[place] for place in places if judged.traces)
    return [trace for trace in traces if trace is not None]


def correlation(traces: Sequence[Trace]) -> float:
    """Pearson correlation over the tokens of all contexts; NaN if either side is constant."""
    if not traces:
        return math.nan
    true = np.concatenate([trace.true_T for trace in traces])
    simulated = np.concatenate([trace.simulated_T for trace in traces])
    if np.ptp(true) == 0 or np.ptp(simulated) == 0:
        return math.nan
    return float(np.corrcoef(true, simulated)[0, 1])


def standard_error(traces: Sequence[Trace]) -> float:
    """Standard error of the correlation's Fisher transform: the jackknife over contexts.

    Tokens of one context depend on each other, so contexts are left out as a whole. It is at least that of as
    many independent tokens, which the jackknife falls below where all contexts agree. NaN with few contexts.
    """
    if len(traces) < MIN_ITEMS:
        return math.nan
    left_out = [correlation([*traces[:i], *traces[i + 1 :]]) for i in range(len(traces))]
    if not all(map(math.isfinite, left_out)):
        return math.nan
    z = np.arctanh(np.clip(left_out, -_MOST, _MOST))
    n_tokens = sum(len(trace.true_T) for trace in traces)
    jackknife = math.sqrt((len(z) - 1) * float(z.var()))
    return max(jackknife, 1 / math.sqrt(max(n_tokens - 3, 1)))


def fisher_interval(value: float, error: float, n_items: int) -> Interval:
    """The 95 % interval of a correlation from the error of its Fisher transform, by Student's t."""
    z = math.atanh(min(max(value, -_MOST), _MOST))
    half = float(student.ppf(0.975, n_items - 1)) * error
    return Interval(math.tanh(z - half), math.tanh(z + half))


def donor_variance(traces: Sequence[Trace]) -> float:
    """Sampling variance of a donor's correlation by the delta method; 0 for a constant simulation."""
    value = correlation(traces)
    error = standard_error(traces)
    if not math.isfinite(value) or not math.isfinite(error):
        return 0.0
    return float(((1 - value**2) * error) ** 2)


TRACKING = Tracking()
