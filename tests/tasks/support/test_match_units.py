"""The identity of a match: matches of catalogues of earlier releases are found."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from catalog.ids import stage_fingerprint
from catalog.ledger import StageOutcome
from tasks.matching.matcher import MatchConfig
from tasks.support.match_units import MatchUnit

RELEASED = {
    "decoder_cosine": "cf6bcf87349a7e5641ddb71083842a9ad37df3b0b51a384fbdc8608449cb3496",
    "activation_correlation": "abdfebc0debc72392319e50c9625600a63c060c7b92b1ab3a0c30ebd7b8008f4",
}
"""What stands for a match of the outcomes ``a`` and ``b`` in catalogues of people; never changed."""
SETTINGS: dict[str, dict[str, Any]] = {"decoder_cosine": {}, "activation_correlation": {"n_shifts": 20}}


@pytest.mark.parametrize("matcher", RELEASED)
@pytest.mark.parametrize("chosen", [{}, {"pairs": ["layers"], "with": ["pico-a/*"]}], ids=["plain", "chosen"])
def test_a_match_has_the_fingerprint_of_the_release(matcher: str, chosen: dict[str, Any]) -> None:
    entry = {"matcher": matcher, **SETTINGS[matcher], **chosen}
    sides = (
        StageOutcome(name, "train_dictionary", False, facts={"dictionary_id": f"id of {name}"})
        for name in "ab"
    )
    key = MatchUnit(TypeAdapter(MatchConfig).validate_python(entry), *sides).key
    assert stage_fingerprint(key.stage, key.version, key.config, key.parents) == RELEASED[matcher]
