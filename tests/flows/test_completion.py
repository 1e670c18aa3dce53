"""The shell completes commands, pipelines and dictionaries, and whatever stands there ends in no error."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.cli import app
from flows.completion import dictionaries, pipelines
from tests.catalog import small


def context(catalogue: Path) -> Any:
    return SimpleNamespace(params={"catalog": str(catalogue)})


@pytest.mark.parametrize(
    ("incomplete", "offered"),
    [
        ("", ["demo", "family"]),
        ("de", ["demo"]),
        ("x", []),
        ("/home/me/mine.yaml", []),
        ("[", []),
        ("**", []),
        ("d\0", []),
    ],
)
def test_pipelines_that_come_with_featlas(incomplete: str, offered: list[str]) -> None:
    assert pipelines(incomplete) == offered


def test_dictionaries_of_the_catalogue(tmp_path: Path) -> None:
    assert dictionaries(context(tmp_path / "none"), "") == []
    small.do_stage(tmp_path / "some", 0)
    (alias,) = dictionaries(context(tmp_path / "some"), "pico")
    assert small.DICTIONARY.startswith(alias)
    assert dictionaries(context(tmp_path / "some"), "%") == []
    (tmp_path / "file").write_text("no catalogue")
    assert dictionaries(context(tmp_path / "file"), "") == []


@pytest.mark.parametrize(("words", "offered"), [("featlas ru", "run"), ("featlas run d", "demo")])
def test_the_shell_is_answered(
    words: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_FEATLAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit) as ended:
        app(prog_name="featlas")
    assert (ended.value.code, capsys.readouterr().out.split()) == (0, [offered])
