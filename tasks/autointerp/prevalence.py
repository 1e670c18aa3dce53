"""Precision at a stated prevalence: of the contexts in which a label expects the feature, how many fire.

Judged items fire far more often than text does, and precision depends on that. At prevalence q it is
q t / (q t + (1 - q) f) with t the share of firing items answered yes (recall) and f that of silent ones. With
items of that prevalence this is TP / (TP + FP).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.autointerp.items import Items, Judged
from tasks.autointerp.lexicon.vocabulary import Bools
from tasks.autointerp.measures import Measure, Row, common_fields
from tasks.autointerp.metrics import (
    UNANSWERED,
    Confusion,
    Interval,
    Values,
    confusion,
    recall,
    specificity,
    wilson,
)


@dataclass(frozen=True)
class AtPrevalence(Measure):
    """Precision and F1 at a prevalence, and whether the label is confident."""

    metrics = ("precision", "f1")

    prevalence: float
    least_precision: float
    least_recall: float

    def rows(self, items: Items, chosen: Bools, judged: Judged, shuffled: Sequence[Judged]) -> Iterator[Row]:
        answers_SI = np.stack([judged.answer_I, *(other.answer_I for other in shuffled)])
        counts = confusion(answers_SI[:, chosen], items.truth_I[chosen])
        common = common_fields(items, chosen, judged.answer_I[chosen] != UNANSWERED)
        common["prevalence"], common["answered_by"] = self.prevalence, "answer"
        precision_S, recall_S = precision(counts, self.prevalence), recall(counts)
        total_S = precision_S + recall_S
        f1_S = np.divide(
            2 * precision_S * recall_S, total_S, out=np.where(total_S == 0, 0.0, np.nan), where=total_S > 0
        )
        is_known = bool(np.isfinite(precision_S[0])) and items.decidable
        donor_S = np.isfinite(precision_S)
        donor_S[0] = False
        variance_S = precision_variance(counts, self.prevalence)[donor_S]
        bounds = precision_interval(counts, self.prevalence) if is_known else None
        yield {
            "metric": "precision",
            **common,
            "value": float(precision_S[0]) if is_known else None,
            "ci_low": bounds.low if bounds else None,
            "ci_high": bounds.high if bounds else None,
            "donors": precision_S[donor_S].tolist(),
            "donor_variance": float(variance_S.mean()) if donor_S.any() else None,
            "confident": self._is_confident(float(precision_S[0]), float(recall_S[0]))
            if items.decidable
            else None,
        }
        yield {
            "metric": "f1",
            **common,
            "value": float(f1_S[0]) if is_known else None,
            "ci_low": None,
            "ci_high": None,
            "donors": f1_S[donor_S].tolist(),
            "donor_variance": None,
        }

    def _is_confident(self, found_precision: float, found_recall: float) -> bool | None:
        """Whether both reach their thresholds; None if nothing was answered."""
        if np.isnan(found_recall):
            return None
        return bool(found_precision >= self.least_precision and found_recall >= self.least_recall)


def precision(counts: Confusion, prevalence: float) -> Values:
    """Share of firing contexts among those answered yes; NaN if none is."""
    hit_S, alarm_S = prevalence * recall(counts), (1 - prevalence) * (1 - specificity(counts))
    yes_S = hit_S + alarm_S
    found: Values = np.divide(hit_S, yes_S, out=np.full_like(yes_S, np.nan), where=yes_S > 0)
    return found


def precision_variance(counts: Confusion, prevalence: float) -> Values:
    """Sampling variance by the delta method: (q (1 - q) / yes²)² (f² v_t + t² v_f)."""
    t, f = recall(counts), 1 - specificity(counts)
    with np.errstate(invalid="ignore"):  # a class without items has no share
        v_t, v_f = t * (1 - t) / (counts.tp + counts.fn), f * (1 - f) / (counts.tn + counts.fp)
    yes = prevalence * t + (1 - prevalence) * f
    slope = np.divide(prevalence * (1 - prevalence), yes**2, out=np.full_like(yes, np.nan), where=yes > 0)
    return np.asarray(slope**2 * (f**2 * v_t + t**2 * v_f), np.float64)


def precision_interval(counts: Confusion, prevalence: float) -> Interval:
    """The 95 % interval of the first set of answers, of which some are yes.

    Precision is 1 / (1 + (1 - q) / q R) with the ratio R = f / t of two independent shares; the interval of R
    comes from their Wilson intervals (Donner and Zou, Statistical Methods in Medical Research 2012).
    """
    tp, fn, fp, tn = (float(n[0]) for n in (counts.tp, counts.fn, counts.fp, counts.tn))
    t, f = tp / (tp + fn), fp / (fp + tn)
    odds = (1 - prevalence) / prevalence
    low, high = ratio_interval(f, wilson(fp, fp + tn), t, wilson(tp, tp + fn))
    return Interval(1 / (1 + odds * high), 1 / (1 + odds * low))


def ratio_interval(f: float, of_f: Interval, t: float, of_t: Interval) -> Interval:
    """The interval of f / t from those of f and t; infinite at its upper end if t may be 0."""
    product = f * t
    below = max(0.0, product**2 - of_f.low * of_t.high * (2 * f - of_f.low) * (2 * t - of_t.high))
    above = max(0.0, product**2 - of_f.high * of_t.low * (2 * f - of_f.high) * (2 * t - of_t.low))
    least = of_f.low * (2 * f - of_f.low)
    low = least / (product + below**0.5) if least > 0 and product + below**0.5 > 0 else 0.0
    largest = of_t.low * (2 * t - of_t.low)
    return Interval(low, (product + above**0.5) / largest if largest > 0 else float("inf"))
