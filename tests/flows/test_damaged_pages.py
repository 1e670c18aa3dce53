"""A flipped byte in a page of a data file: every reader names the file and what to do, in one sentence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from catalog import queries
from catalog.connection import connect
from catalog.contained import run_contained, run_to_files
from catalog.damage import naming_damaged_files
from catalog.errors import CatalogueError, UserError
from catalog.store import TableStore
from dashboards import data
from flows.commands.export import export_command
from flows.commands.show import show_command
from flows.commands.sql import sql_command
from tasks.support.stored import stored_rows
from tests.catalog import small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damaged") / "catalogue"
    small.do_stage(root, 0)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = Path(shutil.copytree(made, tmp_path / "catalogue"))
    monkeypatch.setenv("FEATLAS_CATALOG", str(copy))
    return copy


def flip(root: Path, table: str) -> str:
    """Flip the first byte of a table's file that makes its rows unreadable; returns the file's path."""
    (file,) = TableStore(root).files(table)
    sound = (root / file.path).read_bytes()
    for position in range(4, len(sound)):
        (root / file.path).write_bytes(
            sound[:position] + bytes([sound[position] ^ 255]) + sound[position + 1 :]
        )
        try:
            with connect(root) as connection:
                connection.execute(f"select * from {table}").fetchall()
        except duckdb.Error:
            return file.path
    raise AssertionError(f"no byte of {file.path} matters")


def ask_page(root: Path) -> object:
    return data.rows(data.current(), queries.dictionaries())


READERS: dict[str, Callable[[Path], object]] = {
    "show": lambda root: show_command(f"{small.DICTIONARY}#0", str(root)),
    "export": lambda root: export_command("saebench", small.DICTIONARY, root.parent / "out", str(root)),
    "export weights": lambda root: export_command("saelens", small.DICTIONARY, root.parent / "o", str(root)),
    "sql": lambda root: sql_command("select * from dictionaries", str(root), "csv", None, 10),
    "console": lambda root: run_to_files(root, "select * from dictionaries"),
    "dashboard": ask_page,
    "dashboard alias": lambda root: data.dictionary_id(data.current(), small.DICTIONARY),
    "stage": lambda root: stored_rows(root, "dictionaries", dictionary_id=small.DICTIONARY),
}


def test_every_reader_names_the_file_and_what_to_do(root: Path) -> None:
    path = flip(root, "dictionaries")
    for name, reader in READERS.items():
        with pytest.raises(CatalogueError) as said:
            reader(root)
        for part in (path, "table dictionaries", "featlas verify --deep", "featlas repair"):
            assert part in str(said.value), name
        assert "\n" not in str(said.value), name
    assert any(path in fault for fault in TableStore(root).verify(deep=True))


def test_a_mistake_of_the_query_stays_one(root: Path) -> None:
    for sql in ("select nothing from features", "select cast('x' as integer)"):
        with pytest.raises(UserError, match="the query failed"):
            run_contained(root, sql)
    with pytest.raises(duckdb.ConversionException), naming_damaged_files(root), connect(root) as connection:
        connection.execute("select cast('x' as integer)")
