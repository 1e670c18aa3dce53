"""Values written as literals come back from DuckDB as they were, whatever they hold."""

from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalog.statements import bound, literal
from tests.searching import examples

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | TEXTS
HOSTILE = (
    "'; DROP TABLE features; --",
    "''",
    "\\'",
    "$dictionary_id",
    "$$",
    "a\x00b",
    "-- comment\n/*",
    "\u202egnp.exe\ufeff",
    "e'\\x27'",
    "{brace} %s",
)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


@given(value=VALUES)
@example(value=float("inf"))
@settings(deadline=None, max_examples=examples(200))
def test_a_literal_is_its_value(connection: duckdb.DuckDBPyConnection, value: Any) -> None:
    assert connection.sql(f"SELECT {literal(value)}").fetchall() == [(value,)]


@given(values=st.lists(TEXTS))
@settings(deadline=None, max_examples=examples(100))
def test_a_list_of_texts_is_its_value(connection: duckdb.DuckDBPyConnection, values: list[str]) -> None:
    assert connection.sql(f"SELECT {literal(values)}::VARCHAR[]").fetchall() == [(values,)]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text_and_is_readable(connection: duckdb.DuckDBPyConnection, hostile: str) -> None:
    statement = bound("SELECT $first AS a, $second::VARCHAR AS b", {"first": hostile, "second": hostile})
    assert len(connection.extract_statements(statement)) == 1
    assert connection.sql(statement).fetchall() == [(hostile, hostile)]
    assert statement.isprintable(), "a reader sees every character"


def test_a_value_of_another_kind_and_a_missing_parameter_are_refused() -> None:
    with pytest.raises(TypeError, match="dict"):
        literal({"a": 1})
    with pytest.raises(KeyError):
        bound("SELECT $missing", {})
