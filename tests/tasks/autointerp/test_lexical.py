"""The lexical explainer recovers planted rules; the predicate scorer says so on held-out documents."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.autointerp.explainer import Draft
from tasks.autointerp.explainers.lexical import LexicalConfig, LexicalExplainer
from tasks.autointerp.lexicon.evidence import in_two, named_tokens, token_shares
from tasks.autointerp.lexicon.rule import Constant, Either, TokenRule, rule_from_json
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tasks.autointerp.runner import Explained, Scored, explain, score
from tasks.autointerp.scorers.predicate import PredicateConfig
from tests.tasks.autointerp.planted import FAMILIES, Corpus, examples, features, windows_of

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


def test_labels_begin_with_what_the_strongest_contexts_peak_on(
    planted: pa.Table, corpus: Corpus, tmp_path: Path
) -> None:
    """What no strongest context peaks on is not named first, and no label opens with a phrase of its own."""
    explained, _ = run(planted, corpus, tmp_path)
    rows = {row["feature_index"]: row for row in explained.explanations.to_pylist()}
    evidence = list(read_evidence(features(len(FAMILIES)), [planted], corpus.labels))
    n_named = 0
    for one in evidence:
        row, windows = rows[one.feature_index], one.windows
        strongest = windows.take(one.rows("explain", ("top",)))
        parts = in_two(rule_from_json(row["predicate"]), strongest)
        peaks = {strongest.tokens(i)[strongest.peak_W[i]] for i in range(len(strongest))}
        named = named_tokens(parts.main) if parts.main else frozenset()
        assert named <= peaks
        n_named += len(named)
        assert not row["text"].startswith(("fires", "mostly", "sometimes", "the token"))
        assert sum(share["share"] for share in row["token_shares"]) <= 1 + 1e-6
        assert [s["share"] for s in row["token_shares"]] == sorted(
            (s["share"] for s in row["token_shares"]), reverse=True
        )
    assert n_named > 0


def weak_tail() -> pa.Table:
    """A latent that fires strongly on one token, and weakly on another in every fourth context."""
    rows = []
    for band, n, fires in (
        ("top", 24, True),
        ("q5", 24, True),
        ("random", 40, False),
        ("neighbour", 40, False),
    ):
        for rank in range(n):
            is_weak = band == "q5" and rank % 2 == 0
            token, value = (" sys", 0.1) if is_weak else (" import", 10.0 - rank / 10)
            odd = f" odd{rank}" if band == "q5" and rank % 6 == 1 else " plain"
            tokens = [" some", token if fires else " other", odd, " words"]
            activations = [0.0, value * fires, 0.05 * (odd != " plain"), 0.0]
            rows.append(
                {
                    "feature_index": 0,
                    "band": band,
                    "rank": rank,
                    "tokens": tokens,
                    "activations": activations,
                    "peak_position": 1,
                    "max_activation": value * fires,
                    "document_id": f"d{rank}",
                    "char_start": 7,
                    "token_start": 9,
                    "split": "explain" if rank % 4 < 2 else "score",
                }
            )
    return pa.Table.from_pylist(rows)


def test_weak_firing_is_said_apart_and_every_token_pays_for_itself(tmp_path: Path) -> None:
    done = explain(read_evidence(features(1), [weak_tail()]), LexicalConfig(), scratch=tmp_path, **IDS)
    (row,) = done.explanations.to_pylist()
    assert row["text"] == '" import"; weakly " sys"'
    assert "odd" not in row["predicate"], "tokens of one weak context each are not worth a word"
    shares = {share["token"]: share["share"] for share in row["token_shares"]}
    assert shares[" import"] > 0.95
    assert 0 < shares[" sys"] < 0.05


def test_alternatives_are_divided_like_lists() -> None:
    windows = windows_of([["a", "b", "c"]], activations=[[5.0, 1.0, 0.0]])
    a, b = TokenRule("is", ("b", "a")), TokenRule("class", ("digits",))
    assert in_two(Either((a, b)), windows) == (TokenRule("is", ("a",)), Either((TokenRule("is", ("b",)), b)))
    assert in_two(b, windows) == (None, b)
    assert in_two(Constant(True), windows) == (Constant(True), None)
    assert token_shares(a, windows) == [("a", 5 / 6), ("b", 1 / 6)]
    assert token_shares(b, windows) == []


def test_constant_explainer_sits_at_chance(
    planted: pa.Table, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def constant(self: LexicalExplainer, evidence: FeatureEvidence) -> Draft:
        return Draft("fires on everything", predicate=Constant(True).to_json())

    monkeypatch.setattr(LexicalExplainer, "write", constant)
    _, scored = run(planted, corpus, tmp_path)
    for variant in ("random", "neighbour", "mixed"):
        assert {row["value"] for row in balanced(scored, variant).values()} == {0.5}
