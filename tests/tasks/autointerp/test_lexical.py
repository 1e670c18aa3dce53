"""The lexical explainer recovers planted rules; the predicate scorer says so on held-out documents."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.autointerp.explainer import Draft
from tasks.autointerp.explainers.lexical import LexicalConfig, LexicalExplainer
from tasks.autointerp.lexicon.evidence import parts_by_share, token_shares
from tasks.autointerp.lexicon.rule import (
    Constant,
    Either,
    JoinedRule,
    PositionRule,
    Rule,
    TokenRule,
    rule_from_json,
)
from tasks.autointerp.lexicon.sentence import sentence
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tasks.autointerp.runner import Explained, Scored, explain, score
from tasks.autointerp.scorer import NO_CLAIM, Explanation
from tasks.autointerp.scorers.detection import DetectionConfig, DetectionScorer
from tasks.autointerp.scorers.predicate import PredicateConfig
from tests.tasks.autointerp.planted import FAMILIES, Corpus, Planted, distinct, examples, features, windows_of

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


def test_labels_begin_with_the_part_that_carries_most(
    planted: pa.Table, corpus: Corpus, tmp_path: Path
) -> None:
    explained, _ = run(planted, corpus, tmp_path)
    rows = {row["feature_index"]: row for row in explained.explanations.to_pylist()}
    n_lists = 0
    for one in read_evidence(features(len(FAMILIES)), [planted], corpus.labels):
        row = rows[one.feature_index]
        windows, group_W = one.contrasted()
        parts = parts_by_share(rule_from_json(row["predicate"]), windows.take(group_W == 0))
        assert [part.share for part in parts] == sorted((part.share for part in parts), reverse=True)
        assert sum(part.share for part in parts) <= 1 + 1e-6
        assert not row["text"].startswith(("fires", "sometimes", "the token"))
        shares = [share["share"] for share in row["token_shares"]]
        assert sum(shares) <= 1 + 1e-6
        assert shares == sorted(shares, reverse=True)
        n_lists += len(parts) > 1
    assert n_lists > 0


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


def test_weak_firing_is_said_as_a_share_and_every_token_pays_for_itself(tmp_path: Path) -> None:
    done = explain(read_evidence(features(1), [weak_tail()]), LexicalConfig(), scratch=tmp_path, **IDS)
    (row,) = done.explanations.to_pylist()
    assert row["text"] == '"import"; also "sys" (under 1 %)'
    assert "odd" not in row["predicate"], "tokens of one document each are not worth a word"
    shares = {share["token"]: share["share"] for share in row["token_shares"]}
    assert shares[" import"] > 0.95
    assert 0 < shares[" sys"] < 0.05


def written(evidence: FeatureEvidence) -> Draft:
    return asyncio.run(LexicalExplainer(LexicalConfig()).explain(evidence))


def test_a_token_of_one_document_is_no_rule() -> None:
    """However often it is there: what else the document has in common is not known."""
    table = distinct(1, n_per_half=20)
    draft = written(next(read_evidence(features(1), [table])))
    assert (draft.text, draft.status) == ('"feat0"', "ok")
    one = table.set_column(
        table.schema.get_field_index("document_id"),
        "document_id",
        pa.array(
            ["one" if band in ("top", "q2") else f"d{i}" for i, band in enumerate(table["band"].to_pylist())]
        ),
    )
    draft = written(next(read_evidence(features(1), [one])))
    assert draft.text == 'no token rule found; fires most on "feat0" (100 % of its activation)'
    assert (draft.status, draft.predicate) == ("ok", Constant(False).to_json())
    assert draft.token_shares == ({"token": " feat0", "share": 1.0},)


def without_meaning(corpus: Corpus, n: int) -> pa.Table:
    """Latents that fire at random places of random contexts."""
    anywhere = Planted(lambda t, i, _: hash((t[i], i, t[i - 1])) % 97 == 0, lambda t, i, _: True)
    rng = random.Random(5)
    tables = []
    for index in range(n):
        rows = examples(corpus, [anywhere], seed=index).to_pylist()
        for row in rows:
            fires = row["band"] not in ("random", "neighbour")
            values = [0.0] * len(row["tokens"])
            if fires:
                row["peak_position"] = rng.randrange(len(values))
                values[row["peak_position"]] = rng.uniform(0.5, 1.0)
            row.update(feature_index=index, activations=values, max_activation=max(values))
        tables.append(pa.Table.from_pylist(rows))
    return pa.concat_tables(tables)


def test_latents_without_meaning_get_no_rule_and_stay_at_chance(corpus: Corpus, tmp_path: Path) -> None:
    n = 40
    table = without_meaning(corpus, n)
    done = explain(read_evidence(features(n), [table]), LexicalConfig(), scratch=tmp_path, **IDS)
    texts = done.explanations["text"].to_pylist()
    assert sum(text.startswith("no token rule found") for text in texts) >= 0.9 * n, texts
    evidence = read_evidence(features(n), [table])
    scored = score(evidence, done.explanations, PredicateConfig(), scratch=tmp_path, **IDS)
    rows = balanced(scored, "mixed").values()
    assert sum(bool(row["above_chance"]) for row in rows) <= 0.05 * n
    nothing = {row["feature_index"] for row in done.explanations.to_pylist() if "no token" in row["text"]}
    assert {row["value"] for row in rows if row["feature_index"] in nothing} == {0.5}
    assert not any(row["above_chance"] for row in rows if row["feature_index"] in nothing)


def test_a_text_without_a_claim_is_shown_to_no_judge() -> None:
    judge = DetectionScorer(DetectionConfig(endpoint="judge"))
    nothing = Explanation("e", 0, "lexical", 'no token rule found; fires most on "fox"', NO_CLAIM)
    assert not judge.can_judge(nothing)
    assert judge.can_judge(replace(nothing, text='"fox"', predicate=TokenRule("is", (" fox",)).to_json()))
    assert judge.can_judge(replace(nothing, predicate=None))


def test_alternatives_are_ordered_by_their_share_and_no_token_counts_twice() -> None:
    windows = windows_of([["a", "b", "c", " b"]], activations=[[5.0, 1.0, 0.0, 2.0]])
    a, b = TokenRule("is", ("b", "a", " b")), TokenRule("starts", ("b",))
    parts = parts_by_share(Either((a, b)), windows)
    assert [(part.rule, part.share) for part in parts] == [
        (TokenRule("is", ("a",)), 5 / 8),
        (TokenRule("is", ("b", " b")), 3 / 8),
        (b, 0.0),
    ]
    assert token_shares(a, windows) == [("a", 5 / 8), (" b", 2 / 8), ("b", 1 / 8)]
    assert token_shares(TokenRule("class", ("digits",)), windows) == []


WORDS = [" star", "t", "ing", " run", "n", "ing", " runn", "ing", " ing", "ot"]


@pytest.mark.parametrize(
    ("rule", "tokens", "text"),
    [
        (TokenRule("is", ("ing",)), WORDS, '"…ing" ("running", "starting")'),
        (TokenRule("is", (" ing",)), WORDS, '"ing" in "ingot"'),
        (
            TokenRule("is", ("t",)),
            [" star", "t", " par", "t", "y", "."],
            '"…t…" ("party", "start")',
        ),
        (
            TokenRule("is", (" d",)),
            [" d", "one", " d", "rive", "."],
            '"d…" ("done", "drive")',
        ),
        (TokenRule("is", (" if",)), [" if", " def", " if", "y", "."], '"if"'),
        (JoinedRule(("starting",)), WORDS, '"starting"'),
        (JoinedRule(("run",)), WORDS[3:], '"run" in "running"'),
        (TokenRule("is", (")",)), ["f", "(", "x", ")"], '")"'),
        (TokenRule("starts", ("ru",)), WORDS, 'tokens that start with "ru" ("running")'),
        (
            PositionRule("context_first"),
            ["a", "b"],
            "the first token that the model reads (start of a chunk)",
        ),
    ],
)
def test_pieces_are_shown_in_their_words(rule: Rule, tokens: list[str], text: str) -> None:
    windows = windows_of([[*tokens, " end", "."]], starts=[0])
    values = rule.holds(windows)[0].astype(float).tolist()
    if rule == TokenRule("is", (" if",)):
        values[2] = 0.1
    firing = windows_of([[*tokens, " end", "."]], activations=[values], starts=[0])
    assert sentence(rule, firing) == text


def test_control_tokens_make_no_rule() -> None:
    table = distinct(1, n_per_half=20)
    column = [
        ["\x07" if token == " feat0" else token for token in row] for row in table["tokens"].to_pylist()
    ]
    table = table.set_column(table.schema.get_field_index("tokens"), "tokens", pa.array(column))
    draft = written(next(read_evidence(features(1), [table])))
    assert "\\u0007" not in str(draft.text)
    assert "0007" not in str(draft.predicate)


def test_constant_explainer_sits_at_chance(
    planted: pa.Table, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def constant(self: LexicalExplainer, evidence: FeatureEvidence) -> Draft:
        return Draft("fires on everything", predicate=Constant(True).to_json())

    monkeypatch.setattr(LexicalExplainer, "write", constant)
    _, scored = run(planted, corpus, tmp_path)
    for variant in ("random", "neighbour", "mixed"):
        assert {row["value"] for row in balanced(scored, variant).values()} == {0.5}
