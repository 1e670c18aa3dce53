"""The lexical explainer recovers planted rules; the predicate scorer says so on held-out documents."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.autointerp.explainer import Draft
from tasks.autointerp.explainers.lexical import LexicalConfig, LexicalExplainer
from tasks.autointerp.lexicon.rule import Constant
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tasks.autointerp.runner import Explained, Scored, explain, score
from tasks.autointerp.scorers.predicate import PredicateConfig
from tests.tasks.autointerp.planted import FAMILIES, Corpus, examples, features

IDS = {"dictionary_id": "m/blocks.0.resid_post/topk-00000000", "activation_set_id": "m/blocks.0-11111111"}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(seed=1)


@pytest.fixture(scope="module")
def planted(corpus: Corpus) -> pa.Table:
    return examples(corpus, FAMILIES.values())


def run(planted: pa.Table, corpus: Corpus, scratch: Path) -> tuple[Explained, Scored]:
    table = features(len(FAMILIES))
    explained = explain(
        read_evidence(table, [planted], corpus.labels), LexicalConfig(), scratch=scratch, **IDS
    )
    evidence = read_evidence(table, [planted], corpus.labels)
    scored = score(evidence, explained.explanations, PredicateConfig(), scratch=scratch, **IDS)
    return explained, scored


def balanced(scored: Scored, variant: str) -> dict[int, dict[str, float]]:
    return {
        row["feature_index"]: row
        for row in scored.scores.to_pylist()
        if (row["metric"], row["variant"]) == ("balanced_accuracy", variant)
    }


def test_families_are_recovered_against_neighbours(planted: pa.Table, corpus: Corpus, tmp_path: Path) -> None:
    explained, scored = run(planted, corpus, tmp_path)
    rows = balanced(scored, "neighbour")
    texts = {row["feature_index"]: row["text"] for row in explained.explanations.to_pylist()}
    results = {
        name: (round(rows[i]["value"], 3), round(rows[i]["chance"], 3), texts[i])
        for i, name in enumerate(FAMILIES)
    }
    recovered = [name for name, (value, _, _) in results.items() if value >= 0.9]
    assert len(recovered) >= 0.8 * len(FAMILIES), results
    chances = [chance for _, chance, _ in results.values()]
    assert 0.4 < sum(chances) / len(chances) < 0.6, results


def test_constant_explainer_sits_at_chance(
    planted: pa.Table, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def constant(self: LexicalExplainer, evidence: FeatureEvidence) -> Draft:
        return Draft("fires on everything", predicate=Constant(True).to_json())

    monkeypatch.setattr(LexicalExplainer, "write", constant)
    _, scored = run(planted, corpus, tmp_path)
    for variant in ("random", "neighbour", "mixed"):
        assert {row["value"] for row in balanced(scored, variant).values()} == {0.5}
