"""The queries of the compare page; ``page_queries`` exports them too."""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from catalog.page_texts import read


def common_contexts(
    connection: duckdb.DuckDBPyConnection,
    *,
    files: Sequence[str],
    dictionary_a: str,
    feature_a: int,
    dictionary_b: str,
    feature_b: int,
) -> pa.Table:
    """Positions where the mined contexts of two features overlap, from the files of both blocks."""
    parameters = {
        "dictionary_a": dictionary_a,
        "feature_a": feature_a,
        "dictionary_b": dictionary_b,
        "feature_b": feature_b,
    }
    return read(connection, "common_contexts", parameters, files)


def pair(
    connection: duckdb.DuckDBPyConnection,
    *,
    dictionary_a: str,
    feature_a: int,
    dictionary_b: str,
    feature_b: int,
) -> pa.Table:
    """Matching results for two features."""
    parameters = {
        "dictionary_a": dictionary_a,
        "feature_a": feature_a,
        "dictionary_b": dictionary_b,
        "feature_b": feature_b,
    }
    return read(connection, "pair", parameters)


def compare_rates(connection: duckdb.DuckDBPyConnection, *, dictionary_a: str, dictionary_b: str) -> pa.Table:
    """Share of firing features of ``dictionary_a`` with a mutual match in the other, by density decade."""
    return read(connection, "compare_rates", {"dictionary_a": dictionary_a, "dictionary_b": dictionary_b})


def match_rates(connection: duckdb.DuckDBPyConnection, *, dictionary_a: str, dictionary_b: str) -> pa.Table:
    """Share of features called the same, by method and direction, with that of random directions."""
    return read(connection, "match_rates", {"dictionary_a": dictionary_a, "dictionary_b": dictionary_b})


def compare_scores(
    connection: duckdb.DuckDBPyConnection, *, dictionary_a: str, dictionary_b: str
) -> pa.Table:
    """Distribution of the scores of mutual matches."""
    return read(connection, "compare_scores", {"dictionary_a": dictionary_a, "dictionary_b": dictionary_b})


def compare_matches(
    connection: duckdb.DuckDBPyConnection, *, dictionary_a: str, dictionary_b: str
) -> pa.Table:
    """The strongest mutual matches, with labels."""
    return read(connection, "compare_matches", {"dictionary_a": dictionary_a, "dictionary_b": dictionary_b})


def compare_unmatched(
    connection: duckdb.DuckDBPyConnection, *, dictionary_a: str, dictionary_b: str
) -> pa.Table:
    """Firing features of ``dictionary_a`` without a mutual match in the other."""
    return read(connection, "compare_unmatched", {"dictionary_a": dictionary_a, "dictionary_b": dictionary_b})
