"""What may enter a table, and what is refused with the name of table and column."""

import math
from types import ModuleType

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CatalogueError
from catalog.rows import check_unique, conform, count_nonfinite, rows_of, with_constants
from catalog.schemas import COMMON_COLUMNS, TABLES
from tests.searching import examples

NESTED = pa.list_(pa.struct([("f", pa.float32()), ("l", pa.list_(pa.float64()))]))


def test_constants_are_appended_or_replaced() -> None:
    table = with_constants(pa.table({"a": [1, 2]}), b="x", a=3)
    assert table.to_pydict() == {"a": [3, 3], "b": ["x", "x"]}


def test_conform_orders_casts_and_fills_what_may_be_null(small: ModuleType) -> None:
    rows = small.run()
    shuffled = rows.select(sorted(rows.column_names)).drop_columns([])
    fitted = conform(shuffled, TABLES["runs"])
    names = [c.name for c in TABLES["runs"].columns if c.name not in COMMON_COLUMNS]
    assert fitted.column_names == names
    assert fitted.column("pipeline").null_count == 1
    assert fitted.schema.field("started_at").type == pa.timestamp("us", tz="UTC")


def test_float64_becomes_float32_and_too_large_is_refused(small: ModuleType) -> None:
    rows = small.features()
    index = rows.schema.get_field_index("max_activation")
    doubles = rows.set_column(index, "max_activation", pa.array([1e300] * 4, pa.float64()))
    with pytest.raises(CatalogueError, match=r"features\.max_activation has 4 NaN or infinite"):
        conform(doubles, TABLES["features"])


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "status",
            ["alive", "dead", "alive", "alive"],
            r"features\.status may be alive, unseen, dense; found 'dead'",
        ),
        ("density", [0.1, float("nan"), 0.1, 0.1], r"features\.density has 1 NaN or infinite"),
        ("n_tokens", [1, None, 1, 1], r"features\.n_tokens has 1 nulls"),
        ("n_tokens", ["a", "b", "c", "d"], r"features\.n_tokens cannot hold string as int64"),
    ],
)
def test_what_does_not_fit_is_refused(
    small: ModuleType, column: str, values: list[object], message: str
) -> None:
    rows = small.features()
    rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
    with pytest.raises(CatalogueError, match=message):
        conform(rows, TABLES["features"])


def test_a_missing_column_is_named(small: ModuleType) -> None:
    with pytest.raises(CatalogueError, match="missing columns \\['density'\\]"):
        conform(small.features().drop_columns("density"), TABLES["features"])


def test_a_repeated_key_is_refused() -> None:
    with pytest.raises(CatalogueError, match="1 rows whose key"):
        check_unique(pa.table({"k": [1, 1, 2]}), ["k"], "t")


floats = st.floats(width=32)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(
        st.none()
        | st.lists(st.fixed_dictionaries({"f": st.none() | floats, "l": st.none() | st.lists(floats)}))
    ),
    st.integers(0, 3),
)
def test_every_nonfinite_number_is_counted_however_deep(
    rows: list[list[dict[str, object]] | None], skipped: int
) -> None:
    def bad(value: object) -> int:
        if isinstance(value, float):
            return not math.isfinite(value)
        if isinstance(value, dict):
            return sum(bad(item) for item in value.values())
        return sum(bad(item) for item in value) if isinstance(value, list) else 0

    array = pa.array(rows, NESTED).slice(min(skipped, len(rows)))
    assert count_nonfinite(array) == bad(rows[skipped:])
    assert count_nonfinite(pa.array([{"x": 1.0}], pa.map_(pa.string(), pa.float32()))) == 0


def test_rows_of_takes_the_types_of_the_table_and_refuses_strangers(small: ModuleType) -> None:
    rows = rows_of("aliases", [{"valid_from": small.NOW, "alias": "a", "dictionary_id": "d"}])
    assert rows.schema.names == ["alias", "valid_from", "dictionary_id"]
    assert rows.schema.field("valid_from").type == TABLES["aliases"].column("valid_from").type
    assert rows_of("aliases", []).num_rows == 0
    with pytest.raises(CatalogueError, match="aliases do not fit: unknown columns \\['colour'\\]"):
        rows_of("aliases", [{"alias": "a", "colour": "red"}])
