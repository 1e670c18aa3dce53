"""The console's answers: tables whatever the rows are, and files to take home."""

from io import BytesIO
from pathlib import Path

import pyarrow.parquet
import pytest

from dashboards import console, data
from dashboards.components.console_parts import EXAMPLES

HOSTILE = (
    "COPY features TO '/tmp/featlas-stolen.parquet'",
    "SELECT * FROM read_text('/etc/passwd')",
    "ATTACH '/tmp/x.duckdb'",
    "SELECT 1; DROP VIEW features",
    "SET memory_limit = '64GB'",
    "INSTALL httpfs",
)


@pytest.fixture(autouse=True)
def _catalogue(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_every_example_finds_rows(example: object) -> None:
    answer = console.ask(data.current(), example.sql)  # type: ignore[attr-defined]
    assert answer.error is None
    assert answer.table().num_rows > 0


@pytest.mark.parametrize("sql", HOSTILE)
def test_a_hostile_statement_is_a_sentence(sql: str) -> None:
    answer = console.ask(data.current(), sql)
    assert answer.files is None
    assert answer.error
    assert not Path("/tmp/featlas-stolen.parquet").exists()


def test_downloads_hold_the_rows() -> None:
    answer = console.ask(data.current(), "SELECT feature_index, top_tokens FROM features ORDER BY 1 LIMIT 3")
    assert answer.files is not None
    assert pyarrow.parquet.read_table(BytesIO(answer.files.parquet)).to_pylist() == answer.table().to_pylist()
    lines = answer.files.csv.decode().splitlines()
    assert lines[0] == '"feature_index","top_tokens"'
    assert "window.__pwned" in lines[1]


def test_odd_rows_become_a_table_all_the_same() -> None:
    sql = "SELECT 1 AS a, 'x' AS a, 170141183460469231731687303715884105727 AS b, uuid() AS c, "
    sql += "INTERVAL 1 DAY AS d, TIME '12:00' AS e, 1.50 AS f, MAP {'k': 1} AS g, '\\x00'::BLOB AS h"
    answer = console.ask(data.current(), sql)
    assert answer.error is None
    assert answer.table().column_names[:3] == ["a", "a_2", "b"]
    assert str(answer.table().column("b")[0]) == "170141183460469231731687303715884105727"


def test_an_answer_is_kept_for_all_and_forgotten_when_asked_again() -> None:
    sql = "SELECT random() AS r"
    first = console.ask(data.current(), sql)
    assert console.ask(data.current(), sql) is first
    console.forget(sql)
    assert console.ask(data.current(), sql).number != first.number


def test_columns_are_named_typed_and_explained() -> None:
    found = {
        name: (kind, meaning) for name, kind, meaning in console.columns(data.current(), "feature_cards")
    }
    assert found["density"] == ("number", "Share of valid tokens on which it fired")
    assert found["top_tokens"][0] == "list of text"
    assert {name for name, _, _ in console.columns(data.current(), "runs")} >= {"run_id", "state"}
