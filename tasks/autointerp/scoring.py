"""Scores one explanation: the items, its own answers, those of shuffled explanations, the rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.autointerp.chance import donors_needed, with_chance
from tasks.autointerp.items import Items, Judged
from tasks.autointerp.measures import score_rows
from tasks.autointerp.metrics import METRIC_VERSION, Answers, Values
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.rows import now_text
from tasks.autointerp.scorer import Explanation, Scorer, seeded

_NO_ANSWERS: Answers = np.empty(0, np.int8)
_NO_MARGINS: Values = np.empty(0)


class Donors:
    """Explanations of other features, used in place of a feature's own to measure the chance level.

    Args:
        explanations: All that may be drawn.
        shuffles: How many to draw for each that is scored; more if few are scored.
        seed: Seed of the draws.
        n_scored: How many of the explanations are scored; all without.
    """

    def __init__(
        self, explanations: Sequence[Explanation], shuffles: int, seed: int, n_scored: int | None = None
    ) -> None:
        self.n_drawn = donors_needed(shuffles, len(explanations) if n_scored is None else n_scored)
        self.seed = seed
        self._pools: dict[str, list[Explanation]] = {}
        for explanation in explanations:
            self._pools.setdefault(explanation.explainer, []).append(explanation)

    def of(self, explanation: Explanation) -> list[Explanation]:
        """``n_drawn`` explanations of other features by the same explainer, drawn by seed."""
        pool = self._pools.get(explanation.explainer, [])
        generator = seeded("donors", self.seed, explanation.explanation_id)
        order = generator.permutation(len(pool)) if len(pool) <= 4 * self.n_drawn else None
        drawn = order if order is not None else generator.choice(len(pool), 2 * self.n_drawn, replace=False)
        others = [pool[i] for i in drawn if pool[i].feature_index != explanation.feature_index]
        return others[: self.n_drawn]


async def score_one(
    scorer: Scorer,
    explanation: Explanation,
    feature: FeatureEvidence,
    donors: Donors,
    ids: Mapping[str, str],
    *,
    watched: bool = True,
) -> dict[str, Any]:
    """Judge an explanation, and those of its donors, on the same items; a record for the journal.

    Items of only one class decide nothing: no question is asked, and the score rows say so. Without
    ``watched`` a judge that does not read the items goes on.

    Raises:
        Stopped: when the answers so far show that the judge does not read the items.
    """
    if watched:
        scorer.check()
    items = scorer.items(feature)
    judged, shuffled = Judged(_NO_ANSWERS, margin_I=_NO_MARGINS), list[Judged]()
    if items.decidable:
        judged = await scorer.judge(explanation, feature, items)
        scorer.note(judged)
        for donor in donors.of(explanation):
            shuffled.append(await scorer.judge(donor, feature, items))
    else:
        items = items.none()
    common = {
        **ids,
        "explanation_id": explanation.explanation_id,
        "feature_index": explanation.feature_index,
        "scorer": scorer.config.scorer,
        "judge": scorer.judge_name,
        "seed": scorer.config.seed,
        "created_at": now_text(),
    }
    calls = [*judged.calls, *(call for other in shuffled for call in other.calls)]
    return {
        "common": common,
        "scores": score_rows(items, judged, shuffled, scorer.measures),
        "judgements": _judgement_columns(feature, items, judged),
        "calls": [call.to_plain() for call in calls],
    }


def _judgement_columns(feature: FeatureEvidence, items: Items, judged: Judged) -> dict[str, list[Any]]:
    """One list per column of ``judgements``, in the order in which the items were shown."""
    return {
        "band": [str(band) for band in feature.band_W[items.row_I]],
        "rank": feature.rank_W[items.row_I].tolist(),
        "truth": items.truth_I.tolist(),
        "answer": [None if answer < 0 else bool(answer) for answer in judged.answer_I.tolist()],
        "probability": list(judged.probability_I) or [None] * len(items),
        "call_id": list(judged.call_id_I) or [None] * len(items),
        "margin": _margins(judged, len(items)),
    }


def _margins(judged: Judged, n_items: int) -> list[float | None]:
    """The margin of each item, where it is known."""
    if judged.margin_I is None:
        return [None] * n_items
    return [margin if np.isfinite(margin) else None for margin in judged.margin_I.tolist()]


def all_score_rows(records: Sequence[Mapping[str, Any]], position: int | None) -> list[dict[str, Any]]:
    """The rows of ``scores`` of all records in the journal, with the chance that they measure together."""
    shared = {"position": position, "metric_version": METRIC_VERSION}
    rows = [{**record["common"], **row, **shared} for record in records for row in record["scores"]]
    return with_chance(rows)


def judgement_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of ``judgements`` in a record of the journal."""
    columns = record["judgements"]
    common = {name: value for name, value in record["common"].items() if name != "created_at"}
    for item, values in enumerate(zip(*columns.values(), strict=True)):
        yield {**common, "item": item, **dict(zip(columns, values, strict=True))}
