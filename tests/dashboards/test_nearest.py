"""The search box: numbers that lead to features, and what comes nearest where nothing is found."""

import pytest
import streamlit as st

from dashboards import bound, nearest
from dashboards.components import browse_parts, filters
from dashboards.components.markup import strings
from dashboards.selection import BrowseSelection


def test_whole_labels_come_in_the_order_of_their_spelling() -> None:
    rows = [{"label": label} for label in ("assertion", "a return line", "return", "insert")]
    found = nearest.nearest_labels(rows, ("retrun",))
    assert {row["label"] for row in found[:2]} == {"a return line", "return"}
    both = nearest.nearest_labels([*rows, {"label": "assert that it returns"}], ("retrun", "asert"))
    assert both[0]["label"] == "assert that it returns"
    assert nearest.likeness("", ("retrun",)) == 0.0


@pytest.mark.parametrize(
    ("known", "chosen", "goes_to"),
    [(["a"], {}, "a"), (["a", "b"], {}, None), (["a", "b"], {"dictionary": "b"}, "b")],
)
def test_a_number_leads_to_a_feature_where_it_can_mean_one_only(
    known: list[str], chosen: dict[str, str], goes_to: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(st, "session_state", {})
    written = filters._search(known, chosen, "#73")
    if goes_to is None:
        assert written == {"q": "#73"}
        assert bound.JUMP not in st.session_state
    else:
        assert st.session_state[bound.JUMP] == {"dictionary": goes_to, "feature": "73"}


def test_a_number_of_several_dictionaries_says_so() -> None:
    line = browse_parts.found_line([{"n_found": 2}] * 2, BrowseSelection(q="#73"))
    assert "2 dictionaries have a feature #73" in " ".join(strings(line))
