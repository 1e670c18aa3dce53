"""Runs explainers and scorers over features: resumable, bounded in concurrency, every outcome recorded.

Each finished unit goes to a journal in the scratch folder, so that a kill loses nothing that was paid for. If
further questions are pointless (`Stopped`), the result holds the finished units and names the rest; running
again continues there.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.ids import digest
from tasks.autointerp.chat import ChatClient
from tasks.autointerp.drive import Drive, client_for
from tasks.autointerp.explainer import EXPLAINERS, Draft, ExplainerConfig
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.rows import call_rows, money, now_text, table_of
from tasks.autointerp.scorer import SCORERS, Explanation, Scorer, ScorerConfig
from tasks.autointerp.scoring import Donors, all_score_rows, judgement_rows, score_one
from tasks.common.progress import ProgressListener, silent


@dataclass(frozen=True, slots=True)
class Explained:
    """Tables of the stage, and facts: counts by status, cost, ``stopped`` (why) and what is left."""

    explanations: pa.Table
    llm_calls: pa.Table
    facts: dict[str, Any]

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {"explanations": self.explanations, "llm_calls": self.llm_calls}


@dataclass(frozen=True, slots=True)
class Scored:
    """Tables of the stage, and facts as for `Explained`."""

    scores: pa.Table
    judgements: pa.Table
    llm_calls: pa.Table
    facts: dict[str, Any]

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The tables by name."""
        return {"scores": self.scores, "judgements": self.judgements, "llm_calls": self.llm_calls}


def explain(
    evidence: Iterable[FeatureEvidence],
    config: ExplainerConfig,
    *,
    dictionary_id: str,
    activation_set_id: str,
    scratch: Path,
    fingerprint: str = "",
    client: ChatClient | None = None,
    run_id: str | None = None,
    n_features: int = 0,
    position: int | None = None,
    listener: ProgressListener = silent,
) -> Explained:
    """Explain every feature of the evidence.

    Args:
        fingerprint: Fingerprint of the unit of work: explanations of two units have different ids.
        client: Needed by explainers that ask a language model.
        n_features: Number of features, for the progress bar.
        position: Position of the explainer in the pipeline.

    Raises:
        UserError: when the explainer needs a client and there is none.
    """
    kind = EXPLAINERS[config.explainer]
    explainer = kind(config, client_for(config.explainer, kind.needs_client, client))
    common = {
        "dictionary_id": dictionary_id,
        "activation_set_id": activation_set_id,
        "explainer": config.explainer,
        "model": explainer.client.model if explainer.client else None,
        "prompt_digest": explainer.prompt_digest(config),
        "position": position,
    }

    async def work(feature: FeatureEvidence) -> dict[str, Any]:
        draft = await explainer.explain(feature)
        row = _explanation_row(feature, draft, common, config, fingerprint)
        return {"explanation": row, "calls": [call.to_plain() for call in draft.calls]}

    drive = Drive(scratch / "explained.jsonl", explainer.client, "features explained", n_features, listener)
    records, ending = asyncio.run(drive.run(((f"{one.feature_index:010d}", one) for one in evidence), work))
    explanations = [record["explanation"] for record in (*records, *ending.failed)]
    calls = call_rows([*ending.probes, *records, *ending.failed], run_id)
    return Explained(
        table_of("explanations", explanations),
        table_of("llm_calls", calls),
        {**_counted(explanations), **money(calls), **ending.facts()},
    )


def _explanation_row(
    feature: FeatureEvidence, draft: Draft, common: dict[str, Any], config: ExplainerConfig, fingerprint: str
) -> dict[str, Any]:
    """The row of one explanation; its id is the digest of what was asked and what was said."""
    asked = [
        fingerprint,
        common["dictionary_id"],
        common["activation_set_id"],
        feature.feature_index,
        config.canonical(),
        common["prompt_digest"],
        common["model"],
    ]
    said = [draft.text, draft.predicate, draft.status, draft.error]
    return {
        **common,
        "explanation_id": digest([*asked, feature.digest("explain"), *said])[:32],
        "feature_index": feature.feature_index,
        **draft.columns(),
        "created_at": now_text(),
    }


def score(
    evidence: Iterable[FeatureEvidence],
    explanations: pa.Table,
    config: ScorerConfig,
    *,
    dictionary_id: str,
    activation_set_id: str,
    scratch: Path,
    client: ChatClient | None = None,
    run_id: str | None = None,
    position: int | None = None,
    chosen: Sequence[int] | None = None,
    threshold: float | None = None,
    listener: ProgressListener = silent,
) -> Scored:
    """Score every explanation that has a text (rows of the ``explanations`` table) on its feature.

    One with an unanswered question has only the rows of its calls. One that claims nothing is no donor.

    Args:
        position: Position of the scorer in the pipeline.
        chosen: The features of the evidence; explanations of others only serve to measure chance.
        threshold: Probability from which an answer of the judge counts as yes, as calibrated.

    Raises:
        UserError: when the scorer needs a client and there is none.
    """
    scorer = _scorer(config, client, threshold)
    judgeable = [e for e in read_explanations(explanations) if scorer.can_judge(e)]
    by_feature = _by_feature(judgeable, chosen)
    n_scored = sum(map(len, by_feature.values()))
    donors = Donors([e for e in judgeable if e.claims], config.shuffles, config.seed, n_scored)
    ids = {"dictionary_id": dictionary_id, "activation_set_id": activation_set_id}

    async def work(unit: tuple[Explanation, FeatureEvidence]) -> dict[str, Any]:
        return await score_one(scorer, *unit, donors, ids)

    units = (
        (explanation.explanation_id, (explanation, feature))
        for feature in evidence
        for explanation in by_feature.get(feature.feature_index, [])
    )
    drive = Drive(scratch / "scored.jsonl", scorer.client, "explanations scored", n_scored, listener)
    records, ending = asyncio.run(drive.run(units, work))
    calls = call_rows([*ending.probes, *records, *ending.failed], run_id)
    rows = all_score_rows(records, position)
    facts = {"n_explanations": len(records), **_valued(rows), **money(calls), **ending.facts()}
    judged = table_of("judgements", (row for record in records for row in judgement_rows(record)))
    return Scored(table_of("scores", rows), judged, table_of("llm_calls", calls), facts)


def _scorer(config: ScorerConfig, client: ChatClient | None, threshold: float | None) -> Scorer:
    kind = SCORERS[config.scorer]
    scorer = kind(config, client_for(config.scorer, kind.needs_client, client))
    scorer.threshold = threshold
    return scorer


def _valued(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many explanations have a score, and how many were judged without one (a constant simulation)."""
    valued = {row["explanation_id"] for row in rows if row["value"] is not None}
    judged = {row["explanation_id"] for row in rows if row["n"]}
    return {"n_scored": len(valued), "n_undefined": len(judged - valued)}


def _by_feature(
    explanations: Iterable[Explanation], chosen: Sequence[int] | None
) -> dict[int, list[Explanation]]:
    """The explanations of each feature, or of the chosen ones."""
    wanted = None if chosen is None else set(chosen)
    found: dict[int, list[Explanation]] = {}
    for explanation in explanations:
        if wanted is None or explanation.feature_index in wanted:
            found.setdefault(explanation.feature_index, []).append(explanation)
    return found


def read_explanations(explanations: pa.Table) -> list[Explanation]:
    """The explanations with a text, in order of their ids."""
    columns = ["explanation_id", "feature_index", "explainer", "text", "predicate", "status"]
    rows = explanations.select(columns).to_pylist()
    rows.sort(key=lambda row: str(row["explanation_id"]))
    return [
        Explanation(**{name: value for name, value in row.items() if name != "status"})
        for row in rows
        if row["status"] == "ok" and row["text"]
    ]


def _counted(explanations: list[dict[str, Any]]) -> dict[str, Any]:
    """Explanations by status, and a digest of those with a text."""
    statuses = Counter(row["status"] for row in explanations)
    texts = sorted(row["explanation_id"] for row in explanations if row["status"] == "ok")
    return {
        "n_features": len(explanations),
        "n_ok": statuses["ok"],
        "statuses": dict(statuses),
        "texts_digest": digest(texts),
    }
