"""Rows that come in order are taken as they are; all others are sorted, and repeated keys are refused."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from catalog.errors import CatalogueError
from catalog.schemas import TABLES
from catalog.slices import is_strictly_ascending, sorted_rows


@pytest.mark.parametrize("n", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("n_values", [1, 2, 50])
def test_ascending_rows_are_those_that_python_calls_so(n: int, n_values: int) -> None:
    rng = np.random.default_rng(n * 100 + n_values)
    for _ in range(20):
        drawn = [(int(a), f"é{b:02d}") for a, b in rng.integers(0, n_values, (n, 2))]
        for rows in (drawn, sorted(drawn), sorted(set(drawn))):
            columns = pa.array([a for a, _ in rows], pa.int32()), pa.array([b for _, b in rows], pa.string())
            table = pa.table(dict(zip("ab", columns, strict=True)))
            expected = all(x < y for x, y in pairwise(rows))
            assert is_strictly_ascending(table, ["a", "b"]) is expected


def rows_of_documents(documents: list[str]) -> pa.Table:
    return pa.table(
        {
            "dictionary_id": ["d"] * len(documents),
            "activation_set_id": ["s"] * len(documents),
            "feature_index": pa.array([0] * len(documents), pa.int32()),
            "document_id": documents,
        }
    )


def test_rows_out_of_order_are_sorted_and_repeated_ones_refused() -> None:
    spec = TABLES["document_firings"]
    in_order = rows_of_documents(["a", "b", "é"])
    assert sorted_rows(in_order, spec) is in_order
    assert sorted_rows(rows_of_documents(["é", "b", "a"]), spec).equals(in_order)
    with pytest.raises(CatalogueError, match="occurs twice"):
        sorted_rows(rows_of_documents(["a", "b", "a"]), spec)
