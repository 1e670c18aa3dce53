"""The floor of labels: one token, the best there is, and no better than a rule that may say more."""

import asyncio

import pytest

from tasks.autointerp.explainers.lexical import LexicalConfig, LexicalExplainer
from tasks.autointerp.explainers.single_token import SingleTokenConfig, SingleTokenExplainer
from tasks.autointerp.lexicon.objective import Objective, pack
from tasks.autointerp.lexicon.rule import TokenRule, rule_from_json
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tests.tasks.autointerp.planted import FAMILIES, Corpus, distinct, examples, features

SINGLE = SingleTokenExplainer(SingleTokenConfig())


@pytest.fixture(scope="module")
def planted() -> list[FeatureEvidence]:
    corpus = Corpus(seed=1)
    table = examples(corpus, FAMILIES.values())
    return list(read_evidence(features(len(FAMILIES)), [table], corpus.labels))


def value(evidence: FeatureEvidence, predicate: str | None) -> float:
    """What a rule reaches on the contexts to explain from."""
    assert predicate is not None
    windows, group_W = evidence.contrasted()
    return float(Objective(windows, group_W)(pack(rule_from_json(predicate).holds(windows))[None])[0])


def test_it_names_the_token_on_which_a_feature_fires() -> None:
    for index, evidence in enumerate(read_evidence(features(3), [distinct(3)])):
        draft = asyncio.run(SINGLE.explain(evidence))
        assert (draft.text, draft.status) == (f'"feat{index}"', "ok")
        assert draft.token_shares is not None
        assert draft.token_shares[0] == {"token": f" feat{index}", "share": 1.0}


def test_no_other_single_token_separates_better(planted: list[FeatureEvidence]) -> None:
    for evidence in planted:
        best = value(evidence, asyncio.run(SINGLE.explain(evidence)).predicate)
        windows, group_W = evidence.contrasted()
        texts = {text for text in windows.take(group_W == 0).vocabulary.texts if text}
        others = [value(evidence, TokenRule("is", (text,)).to_json()) for text in sorted(texts)[:200]]
        assert max(others) <= best + 1e-9


def test_a_rule_that_may_say_more_is_above_the_floor_where_there_is_more(
    planted: list[FeatureEvidence],
) -> None:
    """Planted suffixes, positions and lists need more than one token; a planted word needs no more."""
    lexical = LexicalExplainer(LexicalConfig())
    gains = {}
    for name, evidence in zip(FAMILIES, planted, strict=True):
        floor = value(evidence, asyncio.run(SINGLE.explain(evidence)).predicate)
        gains[name] = value(evidence, asyncio.run(lexical.explain(evidence)).predicate) - floor
    assert min(gains.values()) > -0.05, gains
    assert sum(gain > 0.1 for gain in gains.values()) >= len(gains) / 2, gains
