"""Readable numbers and times: sensible digits, suitable units, one dash for a missing value."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

MISSING = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, no exponent between 0.0001 and a million."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude >= 6:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.{max(0, digits - 1 - magnitude)}f}"


def decimal(value: float | None, places: int = 2) -> str:
    """``value`` with a fixed number of decimals, for columns of comparable numbers."""
    return MISSING if value is None or not math.isfinite(value) else _unsigned_zero(f"{value:.{places}f}")


def interval(row: Mapping[str, Any]) -> str:
    """The interval of a row's value in brackets, with a space before; empty if none was measured."""
    low, high = row["ci_low"], row["ci_high"]
    return "" if low is None or high is None else f" ({between(decimal(low), decimal(high))})"


def between(low: str, high: str) -> str:
    """Both ends of a range: a dash, or a word where it would stand beside a minus."""
    return f"{low} to {high}" if "-" in (low[:1], high[:1]) else f"{low}–{high}"


def signed(value: float, places: int = 2) -> str:
    """``value`` with its sign, none if it rounds to zero; plus and minus are equally wide."""
    text = _unsigned_zero(f"{value:+.{places}f}")
    return text.replace("-", "\u2212")


def _unsigned_zero(text: str) -> str:
    """A number as text, without a sign if all its digits are zero."""
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def power_of_ten(exponent: int) -> str:
    """A power of ten with a raised exponent."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def percent(share: float | None, digits: int = 3) -> str:
    """A share as a percentage."""
    if share is None or not math.isfinite(share):
        return MISSING
    return "0 %" if share == 0 else f"{significant(100 * share, digits)} %"


def count(number: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return MISSING if number is None else f"{number:,}".replace(",", "\u202f")


def size(n_bytes: int | None) -> str:
    """Bytes in the unit that keeps the number readable."""
    if n_bytes is None:
        return MISSING
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{significant(value)} {unit}"
        value /= 1000
    return f"{significant(value)} TB"


def duration(seconds: float | None) -> str:
    """A length of time: milliseconds, seconds, minutes or hours."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def money(usd: float | None) -> str:
    """US dollars."""
    if usd is None:
        return MISSING
    return f"${usd:.2f}" if usd >= 0.01 or usd == 0 else f"${significant(usd, 2)}"


def moment(when: datetime | None) -> str:
    """A time to the minute, always in UTC and marked so."""
    if when is None:
        return MISSING
    utc = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return utc.strftime("%Y-%m-%d %H:%M UTC")


def compact(number: int | None) -> str:
    """A large whole number in thousands, millions or billions."""
    if number is None:
        return MISSING
    for unit, scale in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if abs(number) >= scale:
            return f"{significant(number / scale)} {unit}"
    return str(number)
