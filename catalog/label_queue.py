"""Features to explain or score: chosen and ordered by SQL over the view ``label_queue``."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.connection import connect
from catalog.errors import UserError, first_line
from catalog.snapshot import Snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROWS = "from label_queue where dictionary_id = $dictionary_id and activation_set_id = $activation_set_id"


def check_choice(where: str | None, order: str) -> None:
    """Check a condition and an order against the columns of ``label_queue``.

    Raises:
        UserError: when DuckDB refuses them, with its reason.
    """
    with connect(snapshot=Snapshot(Path())) as connection:
        empty = connection.sql("from label_queue limit 0").to_arrow_table()
    _chosen(empty, where, order, None)


def chosen_features(
    root: Path,
    dictionary_id: str,
    activation_set_id: str,
    *,
    where: str | None = None,
    order: str = "priority desc",
    n_features: int | None = None,
) -> list[int]:
    """Firing features of a dictionary on a set that meet a condition, in an order of value.

    Args:
        root: The catalogue.
        dictionary_id: A dictionary.
        activation_set_id: A set on which it was mined.
        where: A SQL condition over the columns of ``label_queue``; all features without one.
        order: SQL after ``order by``; equal features follow in the order of their indices.
        n_features: How many at most.

    Raises:
        UserError: when DuckDB refuses the condition or the order, with its reason.
    """
    ids = {"dictionary_id": dictionary_id, "activation_set_id": activation_set_id}
    with connect(root) as connection:
        rows = connection.sql(_ROWS, params=ids).to_arrow_table()
    return _chosen(rows, where, order, n_features)


def _chosen(rows: pa.Table, where: str | None, order: str, limit: int | None) -> list[int]:
    """Indices of the chosen rows; the text of the user runs where it can reach nothing else."""
    import duckdb

    condition = f" where ({where}\n)" if where else ""
    count = "" if limit is None else f" limit {limit}"
    text = f"select feature_index from label_queue{condition} order by {order}\n, feature_index{count}"
    with duckdb.connect(
        config={"enable_external_access": "false", "lock_configuration": "true"}
    ) as connection:
        connection.register("label_queue", rows)
        try:
            _check_single(connection, text)
            found = connection.execute(text).fetchall()
        except duckdb.Error as error:
            said = f"where {where!r}" if where else f"order {order!r}"
            raise UserError(f"{said} cannot choose features: {first_line(error)}") from None
    return [int(index) for (index,) in found]


def _check_single(connection: "DuckDBPyConnection", text: str) -> None:
    if len(connection.extract_statements(text)) != 1:
        raise UserError("where and order must be one condition and one list of columns, without a semicolon")
