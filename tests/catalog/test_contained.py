"""Hostile SQL reaches nothing: no file is written or read, nothing is loaded, the caller stays alive."""

import hashlib
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import contained
from catalog.contained import AT_ONCE, ContainedResult, needed_relations, run_contained, run_to_files
from catalog.errors import UserError
from catalog.relations import derived_views
from catalog.schemas import TABLES

SECONDS = 6.0

HOSTILE = (
    "copy (select 1) to '{target}'",
    "copy features to '{target}' (format parquet)",
    "copy (select 1) to '{file}' (use_tmp_file false)",
    "copy features from '{file}'",
    "with x as (copy (select 1) to '{target}' (use_tmp_file false)) select * from x",
    "with x as (copy (select 1) to '{file}' (use_tmp_file false)) select * from x",
    "explain analyze copy (select 1) to '{target}'",
    "explain analyze with x as (copy (select 1) to '{file}') select * from x",
    "select * from json_execute_serialized_sql(json_serialize_sql('copy (select 1) to ''{target}'''))",
    "pragma json_execute_serialized_sql('{{}}')",
    "export database '{folder}'",
    "import database '{folder}'",
    "attach '{target}' as other",
    "attach '{root}/catalogue.duckdb' as other (read_only)",
    "detach memory",
    "use other",
    "select * from read_parquet('{file}')",
    "select * from '{file}'",
    "select * from read_csv('/etc/passwd')",
    "select * from read_csv_auto('/etc/passwd', sep = ':')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/proc/self/environ')",
    "select * from read_text('/proc/self/../self/maps')",
    "select * from read_json('{root}/_catalogue/1.json')",
    "select * from glob('/*')",
    "select * from glob('{root}/**')",
    "select * from parquet_metadata('{file}')",
    "select * from parquet_file_metadata('{file}')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from read_duckdb('{root}/catalogue.duckdb')",
    "select * from 'http://127.0.0.1:1/x.parquet'",
    "select * from read_text('https://example.org')",
    "select * from 's3://bucket/x.parquet'",
    "install httpfs",
    "load httpfs",
    "load '/tmp/evil.duckdb_extension'",
    "force install fts from community",
    "set enable_external_access = true",
    "set lock_configuration = false",
    "reset lock_configuration",
    "set memory_limit = '100GB'",
    "set temp_directory = '/tmp'",
    "set file_search_path = '/etc'",
    "set python_enable_replacements = true",
    "pragma enable_external_access",
    "pragma enable_profiling = 'json'",
    "set profiling_output = '{target}'",
    "call enable_logging('QueryLog', storage = 'file')",
    "create secret s (type s3, key_id 'a', secret 'b')",
    "select * from which_secret('s3://x', 's3')",
    "select getenv('PATH')",
    "create table t as select 1",
    "create view features as select 1",
    "create macro m() as 1",
    "drop view features",
    "drop table features",
    "delete from features",
    "update features set density = 0",
    "insert into features select * from features",
    "truncate features",
    "with x as (delete from features returning *) select * from x",
    "with x as (insert into features select * from features returning *) select * from x",
    "select 1; drop view features",
    "select 1; select 2",
    "begin transaction",
    "checkpoint",
    "vacuum",
    "prepare p as select 1",
    "execute p",
    "select * from root",
    "select * from snapshot",
    "select * from request",
    "select * from arrow_scan(1, 2, 3)",
    "select * from arrow_scan(140000000000000::pointer, 140000000000000::pointer, 140000000000000::pointer)",
    "select * from pandas_scan(1)",
    "select * from python_map_function(1)",
    "select * from seq_scan('features')",
    "select nextval('x')",
    "select * from (",
    "\x00",
    "'",
)

GREEDY = (
    "select repeat('x', 4000000000)",
    "select length(repeat(repeat('x', 100000), 100000))",
    "select rpad('x', 2000000000, 'y'), lpad('x', 2000000000, 'y')",
    "select bitstring('1', 2000000000)",
    "select format('{{:>2000000000}}', 'x')",
    "select list(r) from range(2000000000) t(r)",
    "select sum(a.range) from range(100000000) a, range(100000000) b",
    "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r",
    "select sleep_ms(60000)",
    "select max(sha256(repeat('x', 1000) || range)) from range(1000000000)",
    "select * from range(10000000000) order by hash(range)",
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("contained") / "catalogue"
    small.do_stage(root)
    return root


def digest_of(root: Path) -> str:
    parts = (f"{path} {path.read_bytes()!r}" for path in sorted(root.rglob("*")) if path.is_file())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def attempt(root: Path, sql: str) -> ContainedResult | UserError:
    try:
        return run_contained(root, sql, seconds=SECONDS)
    except UserError as error:
        return error


def test_hostile_statements_reach_nothing(filled: Path, tmp_path: Path) -> None:
    before = digest_of(filled)
    names = {
        "root": filled,
        "file": next(filled.glob("features/**/*.parquet")),
        "target": tmp_path / "target",
        "folder": tmp_path / "folder",
    }
    statements = [sql.format(**names) for sql in HOSTILE]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda sql: attempt(filled, sql), statements))
    for sql, answer in zip(statements, answers, strict=True):
        if isinstance(answer, ContainedResult):
            assert answer.rows == [], f"{sql!r} gave {answer.rows[:3]}"
        else:
            assert "\n" not in str(answer)
    assert digest_of(filled) == before
    assert list(tmp_path.iterdir()) == []
    assert run_contained(filled, "select count(*) from features").rows == [(4,)]


def test_greedy_statements_are_stopped_in_time_and_memory(filled: Path) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for sql in (text.format() for text in GREEDY):
        started = time.monotonic()
        with pytest.raises(UserError, match=r"stopped|memory|failed"):
            run_contained(filled, sql, seconds=2)
        assert time.monotonic() - started < 15, sql
    children_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert children_kib < 3 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < own + 300 * 2**10


def test_values_come_back_as_python_values(filled: Path) -> None:
    result = run_contained(
        filled,
        "select 1 as i, 'x\u202e' as t, 1.5 as d, true as b, null as n, [1, null] as l, "
        "{'a': [1.5::float]} as s, map {'k': date '2024-02-29'} as m, "
        "timestamptz '2026-11-20 02:00:00+00' as at, '\\xFF'::blob as x, "
        "'nan'::double as nan, 170141183460469231731687303715884105727 as huge",
    )
    assert result.columns == ["i", "t", "d", "b", "n", "l", "s", "m", "at", "x", "nan", "huge"]
    (row,) = result.rows
    assert row[:2] == (1, "x\u202e")
    assert row[3:7] == (True, None, [1, None], {"a": [1.5]})
    assert row[7] == {"k": datetime(2024, 2, 29).date()}
    assert row[8] == datetime(2026, 11, 20, 2, tzinfo=UTC)
    assert row[9] == b"\xff"
    assert row[10] != row[10]
    assert row[11] == 2**127 - 1
    assert result.types[8] == "TIMESTAMP WITH TIME ZONE"


def test_rows_are_cut_off_and_the_cut_is_said(filled: Path) -> None:
    result = run_contained(filled, "select * from range(5000)", max_rows=10)
    assert (len(result.rows), result.truncated) == (10, True)
    assert not run_contained(filled, "select * from range(10)", max_rows=10).truncated
    with pytest.raises(UserError, match="too large"):
        run_contained(filled, "select repeat('x', 200000000)")


def test_every_table_and_view_can_be_read(filled: Path) -> None:
    names = [*TABLES, *(name for name, _ in derived_views())]
    shown = {name for (name,) in run_contained(filled, "show tables").rows}
    assert shown == set(names)
    counts = ", ".join(f"(select count(*) from {name}) as {name}" for name in names)
    result = run_contained(filled, f"select {counts}")
    found = dict(zip(result.columns, result.rows[0], strict=True))
    assert (found["features"], found["feature_cards"], found["examples"]) == (4, 4, 8)


def test_only_what_a_query_names_is_loaded() -> None:
    assert needed_relations("select 1") == ([], [])
    assert needed_relations("select * from Features") == (["features"], [])
    tables, views = needed_relations("from costs")
    assert (tables, views) == (["llm_calls"], ["costs"])


def test_an_unknown_table_is_answered_with_the_known_ones(filled: Path) -> None:
    with pytest.raises(UserError, match="featurez does not exist; tables and views are runs, "):
        run_contained(filled, "select * from featurez")


def test_a_missing_catalogue_has_empty_tables(tmp_path: Path) -> None:
    assert run_contained(tmp_path / "none", "select count(*) from feature_cards").rows == [(0,)]


def test_a_server_asked_by_many_runs_two_queries_at_once(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = 0, 0
    lock = threading.Lock()
    ask = contained._ask

    def counted(request: bytes, seconds: float) -> tuple[dict[str, Any], bytes]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return ask(request, seconds)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(contained, "_ask", counted)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: attempt(filled, f"select {n} as n"), range(8)))
    rows = [answer.rows for answer in answers if isinstance(answer, ContainedResult)]
    assert most == AT_ONCE
    assert all(row in [[(n,)] for n in range(8)] for row in rows)
    assert len(rows) + sum("other queries" in str(a) for a in answers if isinstance(a, UserError)) == 8


def test_rows_come_as_files_that_others_made(filled: Path) -> None:
    found = run_to_files(filled, "select 1 as a, [1, 2] as b union all select 2, [3]")
    table = pa.ipc.open_stream(found.arrow).read_all()
    assert table.to_pylist() == [{"a": 1, "b": [1, 2]}, {"a": 2, "b": [3]}]
    assert pq.read_table(pa.BufferReader(found.parquet)).to_pylist() == table.to_pylist()
    assert found.csv.decode().splitlines() == ['"a","b"', '1,"[1, 2]"', '2,"[3]"']
    assert (found.n_rows, found.truncated) == (2, False)


def test_files_are_not_larger_than_allowed(filled: Path) -> None:
    with pytest.raises(UserError, match="too large"):
        run_to_files(filled, "select repeat('x', 100000) from range(500)", seconds=SECONDS)
