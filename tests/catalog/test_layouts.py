"""The columns of a released table version never change; what files really hold decides what is read."""

from pathlib import Path
from types import ModuleType

import pytest

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

    import pyarrow as pa

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
