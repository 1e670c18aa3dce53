"""Numbers as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dashboards import figures


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (0.123456, "0.123"), (12.3456, "12.3"), (1234.5, "1234"),
     (-0.05, "-0.0500"), (0.0000123, "1.23e-5"), (1.5e7, "1.50e7"), (1e-10, "1.00e-10")],
)  # fmt: skip
def test_significant(value: float | None, shown: str) -> None:
    assert figures.significant(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0.0123, "12 ms"),
        (5.25, "5.2 s"),
        (59.96, "60.0 s"),
        (61, "1 min 01 s"),
        (7322, "2 h 02 min"),
    ],
)
def test_duration(seconds: float | None, shown: str) -> None:
    assert figures.duration(seconds) == shown


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1500, "1.50 kB"), (2.1e9, "2.10 GB"), (5e13, "50.0 TB")],
)
def test_size(n_bytes: int | None, shown: str) -> None:
    assert figures.size(n_bytes) == shown


def test_other_figures() -> None:
    assert figures.percent(0.00123) == "0.123 %"
    assert figures.count(1234567) == "1\u202f234\u202f567"
    assert figures.compact(1_400_000) == "1.40 M"
    assert figures.money(0.0042) == "$0.0042"
    assert figures.signed(-1.5) == "\u22121.50"
    assert figures.signed(-0.001) == figures.signed(0.0) == "0.00"


def test_no_zero_is_negative_and_no_dash_stands_beside_a_minus() -> None:
    assert figures.decimal(-0.0049) == figures.decimal(-0.0) == "0.00"
    assert figures.decimal(-0.0051) == "-0.01"
    ends = ((-0.10, -0.07, " (-0.10 to -0.07)"), (-0.1, 0.2, " (-0.10 to 0.20)"), (0.1, 0.2, " (0.10–0.20)"))
    for low, high, expected in ends:
        assert figures.interval({"ci_low": low, "ci_high": high}) == expected
    assert figures.interval({"ci_low": -0.001, "ci_high": 0.2}) == " (0.00–0.20)"
    assert figures.power_of_ten(-5) == "10⁻⁵"


def test_moments_are_always_utc() -> None:
    local = datetime(2026, 11, 20, 3, 14, tzinfo=timezone(timedelta(hours=1)))
    assert (
        figures.moment(local)
        == figures.moment(datetime(2026, 11, 20, 2, 14, tzinfo=UTC))
        == "2026-11-20 02:14 UTC"
    )
