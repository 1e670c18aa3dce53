"""How what was said about items becomes rows of scores: one measure for each kind of statement.

A scorer names the measures that fit it. Each gives its metrics against every kind of negatives, for an
explanation and for its donors on the same items; ``chance.with_chance`` turns the donors of all features into
chance levels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from catalog.schemas import SILENT_BANDS
from tasks.autointerp.items import WRONG_TOKENS, Items, Judged
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.metrics import (
    METRICS,
    UNANSWERED,
    Confusion,
    Values,
    balanced_accuracy_variance,
    confusion,
    interval,
)
from tasks.autointerp.ranking import auroc, auroc_interval, auroc_variance

Row = dict[str, Any]


class Measure(ABC):
    """Scores of one kind of statement about items."""

    metrics: ClassVar[tuple[str, ...]]

    @abstractmethod
    def rows(self, items: Items, chosen: Bools, judged: Judged, shuffled: Sequence[Judged]) -> Iterator[Row]:
        """The rows of its metrics over the chosen items (I,): value, interval, n, share, values of donors.

        Without items of both classes every row says so: no value and n = 0.
        """


class YesNo(Measure):
    """Answers yes or no against the truth."""

    metrics = tuple(METRICS)

    def rows(self, items: Items, chosen: Bools, judged: Judged, shuffled: Sequence[Judged]) -> Iterator[Row]:
        answers_SI = np.stack([judged.answer_I, *(other.answer_I for other in shuffled)])
        counts = confusion(answers_SI[:, chosen], items.truth_I[chosen])
        common = common_fields(items, chosen, judged.answer_I[chosen] != UNANSWERED)
        for metric, compute in METRICS.items():
            measured = _measured(metric, compute(counts), counts, items)
            yield {"metric": metric, **common, **measured, "answered_by": "answer"}


class Ranking(Measure):
    """AUROC of the margins; no row for a judge whose endpoint gave none."""

    metrics = ("auroc",)

    def rows(self, items: Items, chosen: Bools, judged: Judged, shuffled: Sequence[Judged]) -> Iterator[Row]:
        if judged.margin_I is None:
            return
        truth_I = items.truth_I[chosen]
        values, variances = [], []
        for one in (judged, *shuffled):
            margin_I = np.full(len(items), np.nan) if one.margin_I is None else one.margin_I
            known = np.isfinite(margin_I[chosen])
            values.append(auroc(margin_I[chosen][known], truth_I[known]))
            variances.append(auroc_variance(margin_I[chosen][known], truth_I[known]))
        known = np.isfinite(judged.margin_I[chosen])
        n_firing = int(truth_I[known].sum())
        is_known = bool(np.isfinite(values[0]))
        bounds = auroc_interval(values[0], n_firing, int(known.sum()) - n_firing) if is_known else None
        donors = [place for place, value in enumerate(values) if place and np.isfinite(value)]
        yield {
            "metric": self.metrics[0],
            **common_fields(items, chosen, known),
            "value": values[0] if is_known else None,
            "ci_low": bounds.low if bounds else None,
            "ci_high": bounds.high if bounds else None,
            "donors": [values[place] for place in donors],
            "donor_variance": float(np.mean([variances[place] for place in donors])) if donors else None,
            "answered_by": judged.by if is_known else None,
        }


YES_NO, RANKING = YesNo(), Ranking()


def score_rows(
    items: Items, judged: Judged, shuffled: Sequence[Judged], measures: Sequence[Measure] = (YES_NO,)
) -> list[Row]:
    """The rows of every measure against each kind of negatives; ``mixed`` are the silent contexts."""
    rows: list[Row] = []
    for variant in (*SILENT_BANDS, WRONG_TOKENS, "mixed"):
        kinds = SILENT_BANDS if variant == "mixed" else (variant,)
        chosen = items.truth_I | np.isin(items.kind_I.astype(str), kinds)
        if variant != "mixed" and not (items.kind_I == variant).any():
            continue
        about = {"variant": variant, "negatives": variant}
        rows += [
            {**about, **row}
            for measure in measures
            for row in measure.rows(items, np.asarray(chosen, bool), judged, shuffled)
        ]
    return rows


def common_fields(items: Items, chosen: Bools, answered: Bools) -> Row:
    """Counts of the chosen items; ``answered`` says which of them count."""
    return {
        "n": int(answered.sum()) if items.decidable else 0,
        "answered_share": float(answered.mean()) if items.decidable else 0.0,
        "prevalence": float(items.truth_I[chosen][answered].mean()) if answered.any() else None,
    }


def _measured(metric: str, values_S: Values, counts: Confusion, items: Items) -> Row:
    """Value and interval of the explanation, and the values of its donors with their sampling variance."""
    is_known = bool(np.isfinite(values_S[0])) and items.decidable
    bounds = interval(metric, counts) if is_known else None
    has_donor_S = np.isfinite(values_S) & items.decidable
    has_donor_S[0] = False
    variance = None
    if metric == "balanced_accuracy" and has_donor_S.any():
        variance = float(balanced_accuracy_variance(counts)[has_donor_S].mean())
    return {
        "value": float(values_S[0]) if is_known else None,
        "ci_low": bounds.low if bounds else None,
        "ci_high": bounds.high if bounds else None,
        "donors": values_S[has_donor_S].tolist(),
        "donor_variance": variance,
    }
