"""A stretch of a context is not a label, from any explainer."""

import asyncio

import pytest

from tasks.autointerp.explainer import Draft, without_quotation
from tasks.autointerp.explainers.lexical import LexicalConfig, LexicalExplainer
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tasks.autointerp.verbatim import repeated
from tests.tasks.autointerp.planted import distinct, features

CONTEXTS = [" if the server was not\nstarted, raise an error", " as well as the other one"]


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("the server was not started", "the server was not started"),
        ('"... The server  was *not* started ..."', "The server  was *not* started"),
        ("the server was not started today", "the server was not started"),
        ("as well as the", None),  # four short words
        ("as well as", None),
        ("raise", None),
        ("", None),
        ("not started, raise an error as well", None),  # over the end of a context
        ("the server was never started", None),
        ("words about a server that was not started, and errors", None),
        ("erver was not started", None),
    ],
)
def test_what_repeats_a_context_is_found(label: str, found: str | None) -> None:
    assert repeated(label, CONTEXTS) == found


@pytest.fixture(scope="module")
def evidence() -> FeatureEvidence:
    return next(iter(read_evidence(features(1), [distinct(1)])))


def test_every_explainer_is_held_to_it(evidence: FeatureEvidence, monkeypatch: pytest.MonkeyPatch) -> None:
    async def quoting(self: LexicalExplainer, _: FeatureEvidence) -> Draft:
        return Draft("Some words feat0 number1", predicate="{}")

    monkeypatch.setattr(LexicalExplainer, "write", quoting)
    draft = asyncio.run(LexicalExplainer(LexicalConfig()).explain(evidence))
    assert (draft.text, draft.status, draft.predicate) == (None, "invalid", None)
    assert draft.error == ("the text repeats a context instead of describing it: 'Some words feat0 number1'")


def test_what_only_the_other_half_shows_is_no_quotation(evidence: FeatureEvidence) -> None:
    """Contexts to score from are never shown; a label that meets them has predicted well."""
    draft = Draft("some words feat0 number2")
    assert without_quotation(draft, evidence) is draft
