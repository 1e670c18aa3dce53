"""Every SQL file has one typed function that binds all its parameters, and every function its file."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import duckdb
import pyarrow.parquet as pq
import pytest

import catalog
from catalog import queries
from catalog.connection import connect, prepare
from catalog.data_dictionary import README, updated
from catalog.ids import slug
from catalog.query import FILES, SQL_FOLDER, query_text
from catalog.relations import over_files
from catalog.schemas import TABLES, feature_block
from catalog.store import TableStore

WRITING = {"SliceWrite", "evidence_slice", "rows_of", "table_of", "share_files"}
NAMES = sorted(path.stem for path in SQL_FOLDER.glob("*.sql"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("queries") / "catalogue"
    small.do_stage(root, run_id="run-1")
    return root


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection on a catalogue that nothing was published to."""
    with connect(tmp_path_factory.mktemp("empty")) as connection:
        yield connection


def test_files_and_functions_go_together(freeze_queries: ModuleType) -> None:
    assert sorted(freeze_queries.functions()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_function_takes_the_parameters_of_its_file_by_name(name: str, freeze_queries: ModuleType) -> None:
    parameters = inspect.signature(freeze_queries.functions()[name]).parameters
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
    assert set(parameters) - {FILES} == set(re.findall(r"\$(\w+)", query_text(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_query_gives_the_columns_that_were_written_down(
    name: str, empty: duckdb.DuckDBPyConnection, freeze_queries: ModuleType
) -> None:
    """Pages and programs read these names; with no rows at all the types are the same."""
    expected = freeze_queries.frozen()[name]
    found = freeze_queries.result_columns(empty, name)
    assert found == expected, "run `python tests/catalog/freeze_queries.py`"


def test_a_statement_has_its_values_in_it(filled: Path, small: ModuleType) -> None:
    query = queries.dictionary_record(dictionary_id="o'clock $1")
    with connect(filled) as connection:
        assert connection.sql(query.statement).fetchall() == []
        known = queries.dictionary_record(dictionary_id=small.DICTIONARY)
        assert len(connection.sql(known.statement).fetchall()) == known.read(connection).num_rows == 1


@pytest.mark.parametrize("mixed", [False, True])
def test_files_of_an_older_layout_are_read_with_nulls(
    mixed: bool, filled: Path, small: ModuleType, tmp_path: Path
) -> None:
    newer = [column.name for column in TABLES["examples"].columns if column.since > 1]
    block = {"dictionary_slug": slug(small.DICTIONARY), "feature_block": feature_block(1)}
    (path,) = TableStore(filled).snapshot().paths("examples", **block)
    table = pq.read_table(path, partitioning=None)
    old = str(tmp_path / "old.parquet")
    pq.write_table(table.drop_columns(newer), old)
    query = queries.feature_examples(
        dictionary_id=small.DICTIONARY,
        activation_set_id=small.SET,
        feature_index=1,
        files=[old, path] if mixed else [old],
    )
    with connect(filled) as connection:
        found = query.read(connection)
    assert found.num_rows == (4 if mixed else 2)
    shown = set(newer) & set(found.column_names)
    assert shown
    assert all(found[name].null_count >= 2 for name in shown)


def test_optional_filters_filter(filled: Path, small: ModuleType) -> None:
    key = {"dictionary_id": small.DICTIONARY, "feature_index": 1}
    with connect(filled) as connection:
        assert queries.feature(**key).read(connection).num_rows == 1
        assert queries.feature(**key, activation_set_id=small.SET).read(connection).num_rows == 1
        assert queries.feature(**key, activation_set_id="other").read(connection).num_rows == 0
        assert queries.browse(dictionary_id="other").read(connection).num_rows == 0
        assert queries.browse(words=["word"]).read(connection).num_rows > 0


def test_a_prepared_connection_gives_the_same_rows(
    filled: Path, small: ModuleType, freeze_queries: ModuleType
) -> None:
    known = {
        "dictionary_id": small.DICTIONARY,
        "activation_set_id": small.SET,
        "feature_index": 1,
        "run_id": "run-1",
        "dictionary_ids": [small.DICTIONARY],
        "feature_indices": [1],
    }
    with connect(filled) as plain, connect(filled) as prepared:
        prepare(prepared)
        n_rows = 0
        for function in freeze_queries.functions().values():
            required = [
                p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty
            ]
            hints = get_type_hints(function)
            query = function(**{n: known.get(n, freeze_queries.ANY_VALUE[hints[n]]) for n in required})
            found, expected = query.read(prepared), query.read(plain)
            assert found.schema == expected.schema
            rows = sorted(map(str, found.to_pylist()))
            assert rows == sorted(map(str, expected.to_pylist())), query.name
            n_rows += len(rows)
    assert n_rows > 20


def test_a_damaged_file_leaves_the_other_queries_of_a_prepared_connection(
    small: ModuleType, tmp_path: Path
) -> None:
    """Its size and footer are right, so only reading it shows the damage."""
    small.do_stage(tmp_path, run_id="run-1")
    (path,) = map(Path, TableStore(tmp_path).snapshot().paths("explanations"))
    content = path.read_bytes()
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") :]
    path.write_bytes(b"PAR1" + bytes(len(content) - len(footer) - 4) + footer)
    key = {"dictionary_id": small.DICTIONARY, "feature_index": 1}
    with connect(tmp_path) as connection:
        prepare(connection)
        assert queries.feature_step(**key, activation_set_id=small.SET).read(connection).num_rows == 1
        assert queries.dictionary_names().read(connection).num_rows > 0
        with pytest.raises(duckdb.Error):
            queries.feature(**key).read(connection)


def test_a_table_is_read_from_files_in_a_query_with_a_common_table_expression(
    filled: Path, small: ModuleType
) -> None:
    block = {"dictionary_slug": slug(small.DICTIONARY), "feature_block": feature_block(1)}
    paths = TableStore(filled).snapshot().paths("examples", **block)
    query = "-- Strongest first.\nwith a as (select * from examples)\nselect count(*) from a"
    with connect(filled) as connection:
        some = connection.execute(over_files(query, "examples", paths)).fetchall()
        assert some == connection.execute(query).fetchall() != [(0,)]
        assert connection.execute(over_files(query, "examples", [])).fetchall() == [(0,)]


def test_the_data_dictionary_is_up_to_date() -> None:
    text = README.read_text()
    assert updated(text) == text, "run `python -m catalog.data_dictionary`"


def test_every_table_is_described() -> None:
    for spec in TABLES.values():
        names = [column.name for column in spec.columns]
        assert len(set(names)) == len(names)
        assert {*spec.key, *spec.sort_by, *spec.partition_by} <= set(names)
        assert all(column.description for column in spec.columns)
        assert not any(spec.column(name).nullable for name in spec.key)


def test_tables_that_nothing_writes_are_planned() -> None:
    """What writes a table names it in one of these calls, in the tables of a stage, or as its own table."""
    folder = Path(catalog.__file__).parents[1]
    named: set[object] = set()
    for path in (p for name in ("catalog", "flows", "tasks") for p in (folder / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in WRITING:
                named.update(part.value for part in node.args if isinstance(part, ast.Constant))
            elif isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "table":
                named.update([node.value.value] if isinstance(node.value, ast.Constant) else [])
            elif isinstance(node, ast.Dict) and path.parent.name in ("stages", "support"):
                named.update(key.value for key in node.keys if isinstance(key, ast.Constant))
    written = named & set(TABLES)
    assert {name for name, spec in TABLES.items() if spec.planned} == set(TABLES) - written
    assert "nothing writes this table yet" in README.read_text()
