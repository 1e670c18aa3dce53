"""Whether a judge can be believed: it judges the right labels of planted features, in two wordings.

The features have known rules over real text (``planting``), so a judge that reads gets them right, and one
that does not is at chance. Features are the units: AUROC and balanced accuracy are means over features of
the value of each, with a bootstrap interval over features.

- ``auroc``: share of pairs of a firing and a silent passage in the right order of the probability of yes;
  where the endpoint gives none, of the answers, which is the balanced accuracy.
- ``threshold``: the probability of yes from which an answer counts as yes, chosen for the highest balanced
  accuracy; null without probabilities.
- ``balanced_accuracy``: with the threshold of the other half of the features, so that no feature chooses the
  threshold that it is measured with.
- ``yes_rate``: share of yes among the answers as given.
- ``agreement``: Cohen's kappa of the answers to two wordings of the prompt: 0 for unrelated answers, 1 for
  equal ones; null without a second wording, and if both get one and the same answer throughout.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.ids import digest
from tasks.autointerp.chat import ChatClient
from tasks.autointerp.drive import Drive, client_for
from tasks.autointerp.judging import JudgeConfig, JudgeScorer
from tasks.autointerp.metrics import Values
from tasks.autointerp.planting.evidence import plant, planted_evidence
from tasks.autointerp.planting.families import Planted
from tasks.autointerp.planting.passages import cut
from tasks.autointerp.ranking import Truth, auroc
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.rows import call_rows, money, now_text, table_of
from tasks.autointerp.scorer import SCORERS, Explanation
from tasks.autointerp.scoring import Donors, score_one
from tasks.common.bootstrap import mean_interval
from tasks.common.progress import ProgressListener, silent

CALIBRATION_VERSION = 1
N_EACH = 2
"""Planted features of each family: with 12 families up to 24 features, whose mean has a deviation of 0.04."""
LIMITS = {"firing": 5, "random": 3, "neighbour": 2}
"""Passages of each feature: two questions of five."""
LEAST_FEATURES = 8
_NOWHERE = {"dictionary_id": "planted", "activation_set_id": "planted"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a judge said about the passages (I) of one planted feature."""

    family: str
    truth_I: Truth
    yes_I: Values
    """Answers: 1 yes, 0 no, NaN none."""
    probability_I: Values
    """Probability of yes; NaN where the endpoint gives none."""

    @property
    def ranks(self) -> Values:
        """What orders the passages (I,): the probability, or the answer without one."""
        return np.where(np.isfinite(self.probability_I), self.probability_I, self.yes_I)

    def area(self) -> float:
        """AUROC; NaN without answers to both kinds of passages."""
        known = np.isfinite(self.ranks)
        return auroc(self.ranks[known], self.truth_I[known])

    def balanced(self, threshold: float | None) -> float:
        """Balanced accuracy, with a threshold of the probability if there is one."""
        said_I = self.yes_I
        if threshold is not None:
            over_I = (self.probability_I > threshold).astype(float)
            said_I = np.where(np.isfinite(self.probability_I), over_I, self.yes_I)
        known = np.isfinite(said_I)
        return auroc(said_I[known], self.truth_I[known])


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The row of ``judges``, its calls, and facts of the stage."""

    judges: pa.Table
    llm_calls: pa.Table
    facts: dict[str, Any]

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {"judges": self.judges, "llm_calls": self.llm_calls}


def calibrate(
    texts: Sequence[tuple[str, str]],
    config: JudgeConfig,
    *,
    scratch: Path,
    client: ChatClient | None,
    run_id: str | None = None,
    listener: ProgressListener = silent,
) -> Calibrated:
    """Let a judge judge planted features of some documents.

    Facts: ``reads`` (whether the interval of its AUROC is above 0.5; null with fewer than `LEAST_FEATURES`
    features in the text), ``threshold``, and the figures in a sentence (``found``).

    Args:
        texts: Id and text of each document.
        config: The scorer that asks; ``client`` is the judge.

    Raises:
        UserError: when there is no client.
    """
    scorers = _scorers(config, client_for(config.scorer, True, client))
    planted, features = _planted(texts)
    no_donors = Donors([], 0, 0)

    async def work(unit: tuple[str, FeatureEvidence]) -> dict[str, Any]:
        wording, feature = unit
        label = planted[feature.feature_index].label
        explanation = Explanation(digest([label])[:32], feature.feature_index, "planted", label, None)
        return await score_one(scorers[wording], explanation, feature, no_donors, _NOWHERE, watched=False)

    units = [
        (f"{wording}/{one.feature_index:04d}", (wording, one)) for wording in scorers for one in features
    ]
    drive = Drive(scratch / "calibrated.jsonl", client, "planted features judged", len(units), listener)
    records, ending = asyncio.run(drive.run(iter(units), work))
    own, reworded = (list(_answered(records, wording, planted)) for wording in ("own", "reworded"))
    row = judge_row(own, reworded)
    every = call_rows([*ending.probes, *records, *ending.failed], run_id)
    calls = [{**call, "purpose": "calibrate"} for call in every]
    scorer = scorers["own"]
    about = {
        "judge": scorer.judge_name,
        "prompt_digest": scorer.prompt_digest(config),
        "scorer": config.scorer,
    }
    rows = [{**about, **row, "created_at": now_text()}] if own else []
    found = {"reads": row["reads"], "threshold": row["threshold"], "found": in_words(row)}
    facts = {**found, **money(calls), **ending.facts()}
    return Calibrated(table_of("judges", rows), table_of("llm_calls", calls), facts)


def _scorers(config: JudgeConfig, client: ChatClient | None) -> dict[str, JudgeScorer]:
    """The scorer with few passages for each feature, in its own wording and, if there is one, in another."""
    small = config.model_copy(update={f"n_{name}": n for name, n in LIMITS.items()} | {"shuffles": 0})
    scorer = SCORERS[config.scorer](small, client)
    assert isinstance(scorer, JudgeScorer)
    scorers = {"own": scorer}
    if scorer.reworded is not None:
        scorers["reworded"] = copy(scorer)
        scorers["reworded"].wording = scorer.reworded
    return scorers


def _planted(texts: Sequence[tuple[str, str]]) -> tuple[list[Planted], list[FeatureEvidence]]:
    """The planted features of some documents and their evidence."""
    passages = cut(texts)
    planted = plant(passages, N_EACH)
    return planted, planted_evidence(passages, planted, LIMITS)


def _answered(
    records: Sequence[Mapping[str, Any]], wording: str, planted: Sequence[Planted]
) -> Iterator[Answered]:
    for record in records:
        if record["key"].startswith(f"{wording}/"):
            said = record["judgements"]
            yes, probability = (
                np.asarray([np.nan if value is None else float(value) for value in said[name]])
                for name in ("answer", "probability")
            )
            family = planted[record["common"]["feature_index"]].family
            yield Answered(family, np.asarray(said["truth"], bool), yes, probability)


def judge_row(own: Sequence[Answered], reworded: Sequence[Answered]) -> dict[str, Any]:
    """The measured columns of ``judges``, see the module."""
    areas = np.asarray([one.area() for one in own])
    halves = (own[::2], own[1::2])
    chosen = [best_threshold(half) for half in halves]
    balanced = [
        one.balanced(threshold)
        for half, threshold in zip(halves, reversed(chosen), strict=True)
        for one in half
    ]
    n_known = int(np.isfinite(areas).sum())
    area, correct = _mean(areas), _mean(np.asarray(balanced))
    yes = np.concatenate([one.yes_I for one in own]) if own else np.empty(0)
    answered = np.isfinite(yes)
    return {
        "auroc": area["value"],
        "auroc_ci_low": area["low"],
        "auroc_ci_high": area["high"],
        "balanced_accuracy": correct["value"],
        "ci_low": correct["low"],
        "ci_high": correct["high"],
        "yes_rate": float(yes[answered].mean()) if answered.any() else None,
        "threshold": best_threshold(own),
        "agreement": kappa(own, reworded),
        "n": int(answered.sum()),
        "n_features": n_known,
        "answered_share": float(answered.mean()) if len(yes) else 0.0,
        "reads": bool(area["low"] is not None and area["low"] > 0.5) if n_known >= LEAST_FEATURES else None,
        "families": [
            {"family": family, "auroc": float(np.mean(values)), "n": len(values)}
            for family, values in sorted(_by_family(own, areas).items())
        ],
    }


def _by_family(own: Sequence[Answered], areas: Values) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one, area in zip(own, areas.tolist(), strict=True):
        if np.isfinite(area):
            found.setdefault(one.family, []).append(area)
    return found


def _mean(values: Values) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    if not len(known):
        return {"value": None, "low": None, "high": None}
    bounds = mean_interval(known)
    return {"value": float(known.mean()), "low": bounds.low, "high": bounds.high}


def best_threshold(answered: Sequence[Answered]) -> float | None:
    """The threshold of the probability with the highest balanced accuracy over all passages.

    Of several the one nearest to 0.5, between two neighbouring probabilities; None without probabilities.
    """
    if not answered:
        return None
    probability = np.concatenate([one.probability_I for one in answered])
    truth = np.concatenate([one.truth_I for one in answered])
    known = np.isfinite(probability)
    values = np.unique(probability[known])
    if not len(values):
        return None
    cuts = np.unique([0.5, *((values[1:] + values[:-1]) / 2)])
    order = cuts[np.argsort(np.abs(cuts - 0.5), kind="stable")]
    firing, silent = (np.sort(probability[known & (truth == kind)]) for kind in (True, False))
    if not len(firing) or not len(silent):
        return None
    missed = np.searchsorted(firing, order, side="right") / len(firing)
    right = np.searchsorted(silent, order, side="right") / len(silent)
    return float(order[int(np.argmax(1 - missed + right))])


def kappa(one: Sequence[Answered], other: Sequence[Answered]) -> float | None:
    """Cohen's kappa (1960) of the answers to the same passages: (p - e) / (1 - e), e by chance.

    None without common answers, and if both are constant and equal.
    """
    n = min(len(one), len(other))
    if not n:
        return None
    a, b = (np.concatenate([feature.yes_I for feature in side[:n]]) for side in (one, other))
    known = np.isfinite(a) & np.isfinite(b)
    if not known.any():
        return None
    equal = float((a[known] == b[known]).mean())
    yes_a, yes_b = float(a[known].mean()), float(b[known].mean())
    by_chance = yes_a * yes_b + (1 - yes_a) * (1 - yes_b)
    return None if by_chance == 1 else (equal - by_chance) / (1 - by_chance)


def in_words(row: Mapping[str, Any]) -> str:
    """The figures of a judge as one clause."""
    if row["auroc"] is None:
        return "it answered nothing about planted features"
    interval = ""
    if row["auroc_ci_low"] is not None:
        interval = f" ({row['auroc_ci_low']:.2f} to {row['auroc_ci_high']:.2f})"
    said = f"AUROC {row['auroc']:.2f}{interval} on {row['n_features']} planted features"
    return f"{said}, yes to {row['yes_rate']:.0%} of the passages".replace("%", " %")
