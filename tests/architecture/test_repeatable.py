"""`make test` tries properties on the same examples in every run; `make faults` looks for new ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.searching import REPEATABLE, SEARCH, TIMES_MORE, examples, register_profiles

ROOT = Path(__file__).parents[2]


def drawn(property_of: Callable[[Callable[[int], None]], Callable[[], None]]) -> list[int]:
    """The examples of a property of whole numbers."""
    seen: list[int] = []
    property_of(seen.append)()
    return seen


def usual(record: Callable[[int], None]) -> Callable[[], None]:
    @given(st.integers())
    def check(number: int) -> None:
        record(number)

    return check


def bounded(record: Callable[[int], None]) -> Callable[[], None]:
    @settings(max_examples=examples(30))
    @given(st.integers())
    def check(number: int) -> None:
        record(number)

    return check


@pytest.fixture(params=[usual, bounded])
def property_of(request: pytest.FixtureRequest) -> Callable[..., Callable[[], None]]:
    return request.param


def test_two_runs_try_the_same_examples(property_of: Callable[..., Callable[[], None]]) -> None:
    """With settings of its own a property is as repeatable as without."""
    settings.load_profile(REPEATABLE)
    assert drawn(property_of) == drawn(property_of)


def test_a_search_tries_other_and_more_examples(property_of: Callable[..., Callable[[], None]]) -> None:
    few = len(drawn(property_of))
    settings.load_profile(SEARCH)
    try:
        one, other = drawn(property_of), drawn(property_of)
    finally:
        register_profiles()
    assert one != other
    assert len(one) > (TIMES_MORE - 1) * few


def test_no_test_leaves_the_profile() -> None:
    own = re.compile(r"\b(derandomize|database|settings\.load_profile|settings\.register_profile)\b\s*[=(]")
    known = {Path(__file__), ROOT / "tests" / "searching.py"}
    texts = {path: path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    of_properties = {path: text for path, text in texts.items() if "from hypothesis import" in text}
    assert len(of_properties) > 20
    assert [path.name for path, text in of_properties.items() if path not in known and own.search(text)] == []


def test_the_targets_name_their_profile() -> None:
    commands = re.findall(r"-m pytest [^\n]*", (ROOT / "Makefile").read_text())
    searching = [command for command in commands if "--hypothesis-profile" in command]
    (faults,) = searching
    assert "-m 'faults or hypothesis'" in faults
    assert f"--hypothesis-profile={SEARCH}" in faults
