"""A run says how many pairs it matches and about how long that takes, before the first match."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from catalog.ids import stage_fingerprint
from catalog.ledger import StageOutcome
from catalog.rows import rows_of
from catalog.store import SliceWrite, publish_rows
from flows.match_forecast import forecast, tell_forecast
from flows.reports import Run
from flows.terminal import Style, shown
from tasks.matching.matchers.activation_correlation import ActivationCorrelationConfig
from tasks.matching.matchers.decoder_cosine import DecoderCosineConfig
from tasks.support.match_units import STAGE, MatchUnit
from tasks.support.policies import StageContext, stage_listener

COSINE, CORRELATION = DecoderCosineConfig(), ActivationCorrelationConfig()
NAMES = ("decoder_cosine", "activation_correlation")


def unit(number: int, config: Any = COSINE) -> MatchUnit:
    first, second = (
        StageOutcome(f"{side}{number}", "train_dictionary", False, facts={"dictionary_id": f"{side}{number}"})
        for side in "ab"
    )
    return MatchUnit(config, first, second)


def matched(root: Path, one: MatchUnit, seconds: float, state: str = "committed") -> None:
    """The row that an earlier match leaves in the ledger."""
    key, now = one.key, datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
    row = {
        "attempt": 1,
        "stage": STAGE,
        "stage_version": key.version,
        "label": key.label,
        "state": state,
        "lease_token": 1,
        "parents": list(key.parents),
        "config": "{}",
        "rows": 1,
        "bytes": 1,
        "seconds": seconds,
        "started_at": now,
        "finished_at": now,
        "facts": "{}",
        "code_version": "1",
    }
    fingerprint = stage_fingerprint(key.stage, key.version, key.config, key.parents)
    write = SliceWrite("stage_runs", key.label, rows_of("stage_runs", [row]))
    publish_rows(root, [write], fingerprint=fingerprint)


def test_nothing_is_known_of_the_first_match(tmp_path: Path) -> None:
    (line,) = forecast(tmp_path, NAMES[:1], [unit(0), unit(1)])
    assert line == (
        "2 pairs with decoder_cosine; 2 pairs to match, for an unknown time: none was matched with "
        "decoder_cosine yet"
    )


def test_the_median_of_earlier_matches_with_the_matcher_counts(tmp_path: Path) -> None:
    for number, seconds in enumerate((10.0, 30.0, 1_000.0)):
        matched(tmp_path, unit(number), seconds)
    matched(tmp_path, unit(0, CORRELATION), 7_000.0)
    matched(tmp_path, unit(9), 5_000.0, "failed")
    units = [unit(number) for number in range(9)]
    (line,) = forecast(tmp_path, NAMES[:1], units)
    assert line == (
        "9 pairs with decoder_cosine, 3 in the catalogue; 6 pairs to match, in about 3 min at 30 s a pair "
        "(median of 3 earlier)"
    )
    (again,) = forecast(tmp_path, NAMES[:1], units, is_forced=True)
    assert again.startswith("9 pairs with decoder_cosine; 9 pairs to match, in about 4 min ")
    assert forecast(tmp_path, NAMES[:1], units[:3]) == ["3 pairs with decoder_cosine, 3 in the catalogue"]


def test_a_matcher_that_compares_nothing_says_so(tmp_path: Path) -> None:
    lines = forecast(tmp_path, NAMES, [unit(0)])
    assert lines[1] == "activation_correlation compares no pair of those that pairs and with choose"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_terminal_the_summary_and_the_log_have_the_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, log_format: Any
) -> None:
    context = StageContext(tmp_path, "run-1")
    run = Run("nightly", "demo", context, datetime.now(UTC), "0")
    with shown(Style(log_format=log_format)) as show, caplog.at_level("INFO", logger="flows"):
        show.begin_lines()
        token = stage_listener.set(show.event)
        tell_forecast(run, [COSINE], [unit(0)])
        stage_listener.reset(token)
    line = "1 pair with decoder_cosine; 1 pair to match, for an unknown time"
    assert run.summary()["forecast"][0].startswith(f"match_features: {line}")
    assert f"forecast of match_features: {line}" in caplog.text
    (said,) = capsys.readouterr().out.splitlines()
    assert '"state": "forecast"' in said if log_format == "json" else " forecast  match_features " in said
    assert line in said
