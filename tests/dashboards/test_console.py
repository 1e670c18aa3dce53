"""The console's answers: tables whatever the rows are, and files to take home."""

from io import BytesIO
from pathlib import Path

import pyarrow.parquet
import pytest

from catalog.contained import ContainedResult
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
    assert answer.table is not None
    assert answer.table.num_rows > 0


@pytest.mark.parametrize("sql", HOSTILE)
def test_a_hostile_statement_is_a_sentence(sql: str) -> None:
    answer = console.ask(data.current(), sql)
    assert answer.table is None
    assert answer.error
    assert not Path("/tmp/featlas-stolen.parquet").exists()


def test_downloads_hold_the_rows() -> None:
    answer = console.ask(data.current(), "SELECT feature_index, top_tokens FROM features ORDER BY 1 LIMIT 3")
    assert pyarrow.parquet.read_table(BytesIO(answer.parquet)).to_pylist() == answer.table.to_pylist()
    lines = answer.csv.decode().splitlines()
    assert lines[0] == '"feature_index","top_tokens"'
    assert "window.__pwned" in lines[1]


def test_odd_rows_become_a_table_all_the_same() -> None:
    result = ContainedResult(
        ["a", "a", "b"], ["X", "X", "Y"], [(1, None, {"k": [1]}), ("x", None, 2)], 0.1, False
    )
    table = console.table_of(result)
    assert table.column_names == ["a", "a_2", "b"]
    assert table.column("a").to_pylist() == ["1", "x"]


def test_columns_are_named_typed_and_explained() -> None:
    found = {
        name: (kind, meaning) for name, kind, meaning in console.columns(data.current(), "feature_cards")
    }
    assert found["density"] == ("number", "Share of valid tokens it fired on")
    assert found["top_tokens"][0] == "list of text"
    assert {name for name, _, _ in console.columns(data.current(), "runs")} >= {"run_id", "state"}
