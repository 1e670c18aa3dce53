"""Scoring one explanation: the items, its own answers, those of shuffled explanations, the rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.autointerp.metrics import Answers
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.rows import now_text
from tasks.autointerp.scorer import Explanation, Items, Judged, Scorer, score_rows, seeded

_NO_ANSWERS: Answers = np.empty(0, np.int8)


class Donors:
    """Explanations of other features, shown in place of a feature's own to learn the chance level."""

    def __init__(self, explanations: Sequence[Explanation], n_drawn: int, seed: int) -> None:
        self.n_drawn = n_drawn
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
) -> dict[str, Any]:
    """Judge an explanation, and those of its donors, on the same items; a record for the journal.

    Items of one class alone decide nothing: nothing is asked, and the score rows say so.
    """
    items = scorer.items(feature)
    judged, shuffled = Judged(_NO_ANSWERS), list[Judged]()
    if items.decidable:
        judged = await scorer.judge(explanation, feature, items)
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
    }
    calls = [*judged.calls, *(call for other in shuffled for call in other.calls)]
    scores = score_rows(items, judged, shuffled)
    return {
        "common": common,
        "scores": [{**common, **row, "created_at": now_text()} for row in scores],
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
    }


def judgement_rows(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of ``judgements`` in a record of the journal."""
    columns = record["judgements"]
    for item, values in enumerate(zip(*columns.values(), strict=True)):
        yield {**record["common"], "item": item, **dict(zip(columns, values, strict=True))}
