"""Named queries for programs and the command line: one typed function per file in ``sql/``.

The files can be pasted into a DuckDB shell on ``catalogue.duckdb`` after setting their ``$parameters``. The
queries of the dashboard are in ``page_queries.py``.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.resolve import resolve_dictionary

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = [
    "dictionary_geometry",
    "dictionary_metrics",
    "dictionary_record",
    "feature_card",
    "feature_examples",
    "feature_explanations",
    "feature_matches",
    "query_text",
    "resolve_dictionary",
    "run_list",
    "run_stages",
    "search_labels",
]

SQL_FOLDER = Path(__file__).parent / "sql"


@cache
def query_text(name: str) -> str:
    """The text of ``sql/<name>.sql``."""
    return (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def read(connection: "DuckDBPyConnection", name: str, parameters: Mapping[str, Any]) -> pa.Table:
    """Run ``sql/<name>.sql`` on a new cursor and fetch all rows."""
    with connection.cursor() as cursor:
        return cursor.sql(query_text(name), params=dict(parameters)).to_arrow_table()


def dictionary_record(connection: "DuckDBPyConnection", *, dictionary_id: str) -> pa.Table:
    """The row of a dictionary."""
    return read(connection, "dictionary_record", {"dictionary_id": dictionary_id})


def dictionary_metrics(
    connection: "DuckDBPyConnection", *, dictionary_id: str, activation_set_id: str | None = None
) -> pa.Table:
    """Metric values of a dictionary with their controls, on all activation sets or on one."""
    parameters = {"dictionary_id": dictionary_id, "activation_set_id": activation_set_id}
    return read(connection, "dictionary_metrics", parameters)


def dictionary_geometry(
    connection: "DuckDBPyConnection", *, dictionary_id: str, activation_set_id: str
) -> pa.Table:
    """Density and decoder geometry of every feature of a dictionary, by feature."""
    parameters = {"dictionary_id": dictionary_id, "activation_set_id": activation_set_id}
    return read(connection, "dictionary_geometry", parameters)


def feature_card(
    connection: "DuckDBPyConnection",
    *,
    dictionary_id: str,
    feature_index: int,
    activation_set_id: str | None = None,
) -> pa.Table:
    """The card of one feature with histogram, logits and neighbours; a row per activation set."""
    parameters = {
        "dictionary_id": dictionary_id,
        "feature_index": feature_index,
        "activation_set_id": activation_set_id,
    }
    return read(connection, "feature_card", parameters)


def feature_examples(
    connection: "DuckDBPyConnection",
    *,
    files: Sequence[str],
    dictionary_id: str,
    feature_index: int,
    limit: int = 1_000,
) -> pa.Table:
    """Mined contexts of one feature.

    ``files`` are the paths of its block: ``snapshot.paths("examples", dictionary_slug=slug(dictionary_id),
    feature_block=feature_block(feature_index))``, at least one.
    """
    parameters = {
        "files": list(files),
        "dictionary_id": dictionary_id,
        "feature_index": feature_index,
        "limit": limit,
    }
    return read(connection, "feature_examples", parameters)


def feature_explanations(
    connection: "DuckDBPyConnection", *, dictionary_id: str, feature_index: int
) -> pa.Table:
    """The newest explanation of every explainer of one feature, in the order of the pipeline."""
    parameters = {"dictionary_id": dictionary_id, "feature_index": feature_index}
    return read(connection, "feature_explanations", parameters)


def feature_matches(
    connection: "DuckDBPyConnection", *, dictionary_id: str, feature_index: int, limit: int = 20
) -> pa.Table:
    """Best partners of one feature in other dictionaries with their labels."""
    parameters = {"dictionary_id": dictionary_id, "feature_index": feature_index, "limit": limit}
    return read(connection, "feature_matches", parameters)


def run_list(connection: "DuckDBPyConnection", *, limit: int = 100) -> pa.Table:
    """Runs, newest first."""
    return read(connection, "run_list", {"limit": limit})


def run_stages(
    connection: "DuckDBPyConnection", *, run_id: str | None = None, limit: int = 1_000
) -> pa.Table:
    """Stage attempts of one run, or of all, newest first."""
    return read(connection, "run_stages", {"run_id": run_id, "limit": limit})


def search_labels(
    connection: "DuckDBPyConnection",
    *,
    words: Sequence[str],
    dictionary_id: str | None = None,
    limit: int = 50,
) -> pa.Table:
    """Features whose label has all ``words`` (lower case); whole words and strong labels first."""
    parameters = {"words": list(words), "dictionary_id": dictionary_id, "limit": limit}
    return read(connection, "search_labels", parameters)
