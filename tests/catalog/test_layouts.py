"""The columns of a released table version never change; what files really hold decides what is read."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from catalog.connection import connect
from catalog.schemas import TABLES, TableSpec


@pytest.mark.parametrize("spec", TABLES.values(), ids=lambda spec: spec.name)
def test_the_layout_of_every_version_is_frozen(spec: TableSpec, freeze_tables: ModuleType) -> None:
    said = freeze_tables.advice(spec)
    assert said is None, said
    now = {str(v): freeze_tables.layout(spec, v) for v in range(1, spec.version + 1)}
    assert now == freeze_tables.frozen().get(spec.name), (
        f"{spec.name} changed since it was frozen: run python tests/catalog/freeze_tables.py, "
        "python -m catalog.data_dictionary, and add a line to CHANGELOG.md"
    )


def test_no_released_table_is_gone(freeze_tables: ModuleType) -> None:
    assert set(freeze_tables.released()) <= set(TABLES)


@pytest.mark.parametrize("spec", TABLES.values(), ids=lambda spec: spec.name)
def test_a_column_that_came_later_may_be_null(spec: TableSpec) -> None:
    for column in spec.columns:
        assert column.since <= spec.version, f"{spec.name}.{column.name} belongs to a later version"
        assert column.since == 1 or column.nullable, f"write {spec.name}.{column.name} with optional(...)"


def test_a_change_of_a_released_version_is_told_what_to_do(
    freeze_tables: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from catalog.schemas import Column

    spec = TABLES["runs"]
    version = freeze_tables.released()["runs"]
    colour = Column("colour", pa.string(), "Colour", nullable=True, since=version)
    said = freeze_tables.advice(replace(spec, columns=(*spec.columns, colour)))
    assert f"set version={version + 1}" in said
    assert f"since={version + 1}" in said
    assert "(colour)" in said
    monkeypatch.setitem(TABLES, "runs", replace(spec, columns=spec.columns[1:]))
    before = Path(freeze_tables.GOLDEN).read_bytes()
    assert len(freeze_tables.freeze()) == 1
    assert Path(freeze_tables.GOLDEN).read_bytes() == before


Altered = Callable[[str, pa.DataType | None], Path]


@pytest.fixture
def altered(
    root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, pa.DataType | None], Path]:
    """Write ``models`` as a featlas would whose version 1 lacked a column or had it with another type."""
    import catalog.parquet_io

    def make(name: str, kind: pa.DataType | None) -> Path:
        real = catalog.parquet_io.pq.ParquetWriter

        class Writer(real):  # type: ignore[misc,valid-type]
            def __init__(self, sink: object, schema: pa.Schema, **other: object) -> None:
                self.strange = (schema.metadata or {}).get(b"featlas.table") == b"models"
                index = schema.get_field_index(name)
                if self.strange and kind is None:
                    schema = schema.remove(index)
                elif self.strange:
                    schema = schema.set(index, pa.field(name, kind))
                super().__init__(sink, schema, **other)

            def write_table(self, table: pa.Table, **other: object) -> None:
                if self.strange:
                    arrays = [table[field.name].cast(field.type) for field in self.schema]
                    table = pa.Table.from_arrays(arrays, schema=self.schema)
                super().write_table(table, **other)

        with monkeypatch.context() as patch:
            patch.setattr(catalog.parquet_io.pq, "ParquetWriter", Writer)
            small.do_stage(root, 0)
        return root

    return make


def test_a_file_without_a_column_of_its_version_reads_it_as_null(altered: Altered) -> None:
    root = altered("n_layers", None)
    with connect(root) as connection:
        assert connection.execute("select model_id, n_layers, d_model from models").fetchall() == [
            ("pico-a", None, 4)
        ]
        assert connection.execute("select count(*) from features").fetchall() == [(4,)]
        assert connection.execute("select * from damaged_files").fetchall() == []


def test_a_column_of_another_type_costs_that_file_alone(altered: Altered) -> None:
    root = altered("n_layers", pa.string())
    with connect(root) as connection:
        damaged = connection.execute("select table_name, reason from damaged_files").fetchall()
        assert connection.execute("select count(*) from models").fetchall() == [(0,)]
        assert connection.execute("select count(*) from features").fetchall() == [(4,)]
    assert damaged == [("models", "has n_layers as VARCHAR, not INTEGER")]
