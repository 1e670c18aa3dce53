"""What an address may ask for, and what it becomes again."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UserError
from catalog.queries import Sort
from dashboards import links
from dashboards.selection import DENSITIES, BrowseSelection, CompareSelection, FeatureSelection, Side

SELECTIONS = st.builds(
    BrowseSelection,
    q=st.text(max_size=40),
    token=st.text(max_size=10),
    model=st.none() | st.just("pico-a"),
    dictionary=st.none() | st.just("pico-a/blocks.2.resid_post/topk-x8-k16-s0"),
    status=st.sampled_from(["any", "alive", "unseen", "dense"]),
    density_low=st.sampled_from(DENSITIES),
    density_high=st.sampled_from(DENSITIES),
    score=st.sampled_from([0.0, 0.55, 1.0]),
    matched=st.sampled_from(["any", "yes", "no"]),
    sort=st.sampled_from(get_args(Sort)),
    page=st.integers(1, 1000),
)


@given(SELECTIONS)
def test_an_address_says_the_whole_state(selection: BrowseSelection) -> None:
    _, parameters = links.parse(links.page("browse", **selection.to_url()))
    assert BrowseSelection.from_url(parameters) == selection


def test_defaults_are_left_out_of_the_address() -> None:
    assert BrowseSelection().to_url() == {}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"page": "-1"}, "page='-1' in the address"),
        ({"page": "9" * 30}, "is not a whole number"),
        ({"score": "nan"}, "is not a number from 0 to 1"),
        ({"density_low": "1e9"}, "is not a number from 0 to 1"),
        ({"status": "dead"}, "is not one of any, alive, unseen, dense"),
        ({"sort": "score; drop table features"}, "is not one of score"),
        ({"dictionary": "../../etc/passwd"}, "not a valid name"),
        ({"dictionary": "![x](http://evil.example)"}, "not a valid name"),
    ],
)
def test_browse_refuses_in_one_sentence(query: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        BrowseSelection.from_url(query)
    assert said in str(refused.value)


def test_a_feature_is_named_by_parts_or_in_text_form() -> None:
    parts = FeatureSelection.from_url({"dictionary": "pico-a/x", "feature": "17"})
    assert (
        parts == FeatureSelection.from_url({"dictionary": "pico-a/x#17"}) == FeatureSelection("pico-a/x", 17)
    )
    assert FeatureSelection.from_url({}) is None


@pytest.mark.parametrize("feature", ["x", "-3", "1.5", "٣", str(2**31)])
def test_a_malformed_feature_is_refused(feature: str) -> None:
    with pytest.raises(UserError):
        FeatureSelection.from_url({"dictionary": "pico-a/x", "feature": feature})


def test_sides_read_what_they_write() -> None:
    for side in (Side("pico-a/x"), Side("pico-a/x", 3)):
        assert Side.parse(side.text) == side
    assert CompareSelection.from_url({"a": "m/x#3"}) == CompareSelection(Side("m/x", 3), None)


@pytest.mark.parametrize("href", ["elsewhere", "javascript:alert(1)", "//evil.example"])
def test_links_lead_to_pages_only(href: str) -> None:
    with pytest.raises(ValueError, match="no page"):
        links.parse(href)


def test_link_parameters_survive_odd_text() -> None:
    odd: dict[str, Any] = {"q": "a&b=c #% é"}
    assert links.parse(links.page("browse", **odd)) == ("browse", odd)


@pytest.mark.parametrize("example", ["top", "top-x", "<b>-1", "top-1 or 1=1", "-1"])
def test_a_malformed_example_is_refused(example: str) -> None:
    with pytest.raises(UserError, match="is not a band and a rank"):
        FeatureSelection.from_url({"dictionary": "pico-a/x", "feature": "3", "example": example})


@pytest.mark.parametrize(
    ("q", "number", "words"),
    [
        ("#73", 73, ()),
        (" #0 ", 0, ()),
        ("#", None, ("#",)),
        ("#7a", None, ("#7a",)),
        ("Two 3", None, ("two", "3")),
    ],
)
def test_a_search_is_for_words_or_a_number(q: str, number: int | None, words: tuple[str, ...]) -> None:
    assert (BrowseSelection(q=q).number, BrowseSelection(q=q).words) == (number, words)
