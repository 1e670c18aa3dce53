"""Commands that a README shows exist: ``featlas`` takes their options, ``make`` knows their target."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from flows.cli import app

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("infra", "flows", "catalog", "dashboards", "tasks", "tests")
READMES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("README.md"))),
]
FENCE = re.compile(r"^```(?:sh|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OTHER_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:featlas|make)(?: [^`]+)?)`")


def words_of(line: str) -> list[str]:
    """A shell line as words: no prompt, no path of the program, no brackets of optional parts."""
    try:
        words = shlex.split(re.sub(r"[\[\]]", "", line), comments=True)
    except ValueError as error:
        raise ValueError(f"{line!r}: {error}") from error
    words = [re.sub(r"^.*\.venv/bin/", "", word) for word in words]
    return words if words[:1] in (["featlas"], ["make"]) else []


def commands() -> Iterator[tuple[str, list[str], bool]]:
    """README, words, and whether the command is complete (a block to paste, not a mention)."""
    for path in READMES:
        text = path.read_text().replace("\\\n", " ")
        name = str(path.relative_to(ROOT))
        for block in FENCE.findall(text):
            for line in statements(block):
                if words := words_of(line):
                    yield name, words, True
        for mention in INLINE.findall(OTHER_FENCE.sub("", text)):
            if words := words_of(" ".join(mention.split())):
                yield name, words, False


def statements(block: str) -> Iterator[str]:
    """The lines of a block; a quoted text may go over several."""
    held = ""
    for line in block.splitlines():
        held = f"{held}\n{line}" if held else line
        if held.split(" #")[0].count('"') % 2 == 0:
            yield held
            held = ""


CASES = list(commands())
FEATLAS = [case for case in CASES if case[1][0] == "featlas"]
MAKE = sorted({(name, " ".join(words)) for name, words, _ in CASES if words[0] == "make"})


@pytest.mark.parametrize(
    ("readme", "words", "complete"), FEATLAS, ids=[f"{case[0]}: {' '.join(case[1])}" for case in FEATLAS]
)
def test_featlas_takes_the_command(readme: str, words: list[str], complete: bool) -> None:
    group = get_command(app)
    context = typer.Context(group, info_name="featlas")
    arguments = words[1:]
    if not arguments or arguments[0].startswith("--"):
        assert all(known(group, word) for word in arguments), f"{readme}: no such option in {words}"
        return
    assert arguments[0] in group.commands, f"{readme}: featlas has no command {arguments[0]!r}"
    command = group.commands[arguments[0]]
    if complete:
        command.make_context(arguments[0], arguments[1:], parent=context)
    else:
        assert all(known(command, word) for word in arguments[1:] if word.startswith("-")), readme


def known(command: object, option: str) -> bool:
    """Whether a command has an option; completion comes with every typer program."""
    options = [name for parameter in command.params for name in parameter.opts]  # type: ignore[attr-defined]
    return option in [*options, "--help", "--install-completion"]


@pytest.mark.parametrize(("readme", "line"), MAKE, ids=lambda value: value)
def test_make_knows_the_target(readme: str, line: str) -> None:
    words = re.sub(r"-C \S+ ?", "", line).split()[1:]
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{readme}: {line}: {done.stderr}"


def test_both_programs_are_shown() -> None:
    assert len(FEATLAS) > 20
    assert len(MAKE) > 4
