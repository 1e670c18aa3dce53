"""Headway is a help for readers: it comes and goes with its claim, and never fails."""

import contextlib
from pathlib import Path

import pytest

from catalog.headway import FILE, Headway, HeadwayFile, read_headway
from catalog.ledger import Ledger


def test_headway_comes_and_goes_with_its_claim(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with contextlib.suppress(RuntimeError), ledger.claim("train", 1, "a", {}, []) as claim:
        claim.tell("steps", 2, 0)
        assert read_headway(claim.scratch) is None, "an unknown total says nothing"
        claim.tell("steps", 3, 10)
        claim.tell("steps", 4, 10)
        assert read_headway(claim.scratch) == Headway("steps", 3, 10), "at most every two seconds"
        claim.tell("writing rows", 0, 0)
        assert read_headway(claim.scratch) == Headway("writing rows", 0, 0), "something else, in words"
        raise RuntimeError("stop")
    assert not claim.scratch.exists()


def test_headway_of_an_attempt_that_was_killed_is_not_that_of_the_next(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    with ledger.claim("train", 1, "a", {}, []) as claim:
        folder = claim.scratch
        claim.commit([], facts={})
    folder.mkdir(parents=True)
    HeadwayFile(folder).tell("steps", 9, 10)
    with ledger.claim("train", 1, "a", {}, [], force=True) as claim:
        assert claim.scratch == folder
        assert read_headway(folder) is None


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[1]", '["steps", "x", 3]', "\\x00", "[" * 100_000, '["steps", 3, 0]'),
        *('["steps", -1, 3]', '["steps", 1e999, 3]', '["steps", 1, NaN]'),
    ],
    ids=lambda content: content[:20],
)
def test_a_damaged_file_says_nothing(tmp_path: Path, content: str) -> None:
    """Its numbers are divided by on the page of runs."""
    (tmp_path / FILE).write_text(content)
    assert read_headway(tmp_path) is None


def test_a_folder_that_cannot_be_written_harms_nothing(tmp_path: Path) -> None:
    file = HeadwayFile(tmp_path / "missing")
    file.tell("steps", 1, 2)
    file.remove()
