"""What every matcher of the registry has to satisfy; a new one is tested without an edit here."""

from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from catalog.schemas import Verdict
from tasks.matching.matcher import MATCHERS, Candidate, MatchConfig, Side, matcher_of
from tests.tasks.matching.test_matchers import activations, config_of, planted, run, side

EVERY = pytest.mark.parametrize("matcher", MATCHERS.names())


def candidate(side: Side) -> Candidate:
    """What the catalogue says of a side that writes what it reads."""
    return Candidate(side.space, side.space, str(side.activation_set.meta["corpus_digest"]))


@EVERY
def test_a_matcher_compares_only_what_it_can_match(matcher: str) -> None:
    """Of every pair it is asked about, and it compares some pair."""
    a = side(planted(), activations(planted()))
    compared = []
    for space in ("model", "other"):
        for corpus in ("one", "another"):
            b = side(planted(1), activations(planted()), "b", space)
            b.activation_set.meta["corpus_digest"] = corpus
            if matcher_of(config_of(matcher)).compares(candidate(a), candidate(b)):
                compared.append(run(matcher, a, b).table)
    assert compared
    for table in compared:
        assert set(table["method"].to_pylist()) == {matcher}
        assert set(table["verdict"].to_pylist()) <= set(get_args(Verdict))


@EVERY
def test_a_matcher_is_asked_in_either_order(matcher: str) -> None:
    places = (("model hookpoint",), ("other hookpoint",))
    some = [Candidate(reads, writes, text) for reads in places for writes in places for text in "xy"]
    asked = matcher_of(config_of(matcher))
    assert all(asked.compares(a, b) == asked.compares(b, a) for a in some for b in some)


@EVERY
def test_a_matcher_config_survives_a_round_trip(matcher: str) -> None:
    config, adapter = config_of(matcher), TypeAdapter(MatchConfig)
    assert adapter.validate_python(adapter.dump_python(config, mode="json")) == config
    with pytest.raises(ValidationError, match="unknown field 'colour'"):
        config_of(matcher, colour="red")


def test_directions_are_compared_in_one_space_and_behaviour_on_one_text() -> None:
    here, there = ("model blocks.0.mlp_in",), ("model blocks.0.mlp_out",)
    a, same, transcoder = Candidate(here, here, "x"), Candidate(here, here, "y"), Candidate(here, there, "x")
    cosine, correlation = (
        matcher_of(config_of(name)) for name in ("decoder_cosine", "activation_correlation")
    )
    assert (cosine.compares(a, same), cosine.compares(a, transcoder)) == (True, False)
    assert (correlation.compares(a, same), correlation.compares(a, transcoder)) == (False, True)
    assert correlation.compares(a, Candidate(here, here, "x")), "two dictionaries of one place"
