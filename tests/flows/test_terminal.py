"""How much a run says: nothing when quiet, more when verbose, bars only where there is a terminal."""

import json
import logging
import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flows.terminal import Bars, Lines, Style, shown
from tasks.common.progress import Progress, StageEvent

EVENTS = (
    StageEvent("load_corpus", "corpus stdlib", "found", rows=467, seconds=3.0),
    StageEvent("cache_activations", "pico-a", "started"),
    StageEvent("cache_activations", "pico-a", "working", Progress("tokens cached", 50, 200)),
)


def said(capsys: pytest.CaptureFixture[str], **style: Any) -> list[str]:
    """The lines of a run that finds a unit, is in the middle of another one and logs twice."""
    with shown(Style(**style)) as show:
        show.begin_lines()
        for event in EVENTS:
            show.event(event)
        for display in show.displays:
            display.tick()
        logging.getLogger("tasks.stage").info("a detail")
        logging.getLogger("tasks.stage").warning("a warning")
        periods = [display.tick_seconds for display in show.displays]
    assert periods == ([] if style.get("verbosity") == -1 else [10.0 if style.get("verbosity") else 60.0])
    out, err = capsys.readouterr()
    assert err == ""
    return [line.split(maxsplit=1)[1] for line in str(out).splitlines()]


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, verbosity=-1) == []


def test_a_verbose_run_says_more_than_another_and_says_it_more_often(
    capsys: pytest.CaptureFixture[str],
) -> None:
    usual, verbose = (said(capsys, verbosity=verbosity) for verbosity in (0, 1))
    assert usual == [
        "found     load_corpus corpus stdlib: 467 rows, 3 s",
        "started   cache_activations pico-a",
        "working   cache_activations pico-a: 50 of 200 tokens cached (25 %), 0 s so far",
        "warning a warning",
    ]
    assert [line for line in verbose if line not in usual] == ["info a detail"]
    assert len(verbose) == len(usual) + 1


def test_lines_for_machines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(Style(log_format="json")) as show:
        show.begin_lines()
        show.event(EVENTS[0])
    line = json.loads(capsys.readouterr().out)
    assert (line["state"], line["stage"], line["rows"]) == ("found", "load_corpus", 467)


@contextmanager
def terminal_for_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal in place of the error output."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.setattr("sys.stderr", stream)
        yield
    os.close(ours)


@pytest.mark.parametrize(
    ("style", "displays"),
    [
        (Style(), [Bars, Lines]),
        (Style(as_json=True), [Bars]),
        (Style(verbosity=-1), []),
        (Style(log_format="json"), [Lines]),
    ],
)
def test_bars_are_drawn_on_a_terminal_for_a_person(
    style: Style, displays: list[type], monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal_for_errors(monkeypatch), shown(style) as show:
        show.begin_lines()
        assert [type(display) for display in show.displays] == displays
