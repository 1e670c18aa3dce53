"""Plain English: words that no text of the repository uses, and lines of Markdown that fit a screen."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 110

# A word and what to write in its place.
DENIED = {
    r"anew": "again",
    r"aught|naught|nought": "anything, nothing",
    r"dealt|deal(s|ing)? out": "split, drawn, distributed",
    r"drinks?|drank": "reads, consumes",
    r"forthwith|hither\w*|hence(forth)?|thence|whence": "at once, so, from there",
    r"hereby|herein|thereby|therein|thereof|whereby|wherein|whereupon": "by this, in it",
    r"lest|shall|ought|unto|thrice": "so that ... not, must, should, to, three times",
    r"mend(s|ed|ing)?": "repair",
    r"so many": "a number, or its name",
    r"spoil(s|t|ed)?": "damage, corrupt",
    r"strangers?": "third party, other people, unknown source",
    r"vouch(es|ed)?": "confirm, check",
    r"whoever|whosoever|whatsoever": "anyone, whatever",
}
TEXT = (".py", ".md", ".sql", ".sh", ".yaml", ".yml", ".toml", ".js", ".css", ".cpp", "Makefile")
# Corpora and prompts are data: a reader of the code is not their reader.
NOT_TEXT = ("tasks/autointerp/prompts/", "tests/architecture/test_wording.py", "LICENSE")
# Rows of wide tables; the number only shrinks.
WIDE = {"tests/benchmarks/RESULTS.md": 27}


def tracked(*endings: str) -> list[str]:
    """The text files of the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(
        {
            line
            for line in listed.splitlines()
            if line.endswith(endings) and not line.startswith(NOT_TEXT) and (ROOT / line).is_file()
        }
    )


@pytest.mark.parametrize("pattern", DENIED)
def test_denied_word_is_nowhere(pattern: str) -> None:
    expression = re.compile(rf"\b({pattern})\b", re.IGNORECASE)
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in tracked(*TEXT)
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if expression.search(line)
    ]
    assert not found, f"write {DENIED[pattern]!r} in {found}"


@pytest.mark.parametrize("path", tracked(".md"))
def test_lines_of_markdown_fit(path: str) -> None:
    lines = (ROOT / path).read_text().splitlines()
    wide = [number for number, line in enumerate(lines, 1) if len(line) > WIDTH]
    assert len(wide) == WIDE.get(path, 0), f"lines {wide} of {path} have more than {WIDTH} columns"


def test_every_file_with_wide_lines_exists() -> None:
    assert WIDE.keys() <= set(tracked(".md"))
