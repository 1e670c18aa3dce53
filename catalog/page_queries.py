"""The queries of the dashboard's pages: one typed function per ``sql/page_*.sql``.

Every function takes a connection of ``catalog.connection`` and returns an Arrow table of at most a thousand
rows. If a page must read only some files of ``examples``, the caller selects them; the statement itself
covers
the whole table.
"""

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from catalog.page_comparisons import (
    common_contexts,
    compare_matches,
    compare_rates,
    compare_scores,
    compare_unmatched,
    match_rates,
    pair,
)
from catalog.page_texts import Sort, read

__all__ = [
    "alias",
    "browse",
    "changes",
    "columns",
    "common_contexts",
    "compare_matches",
    "compare_rates",
    "compare_scores",
    "compare_unmatched",
    "damage",
    "dictionaries",
    "dictionary_metrics",
    "document",
    "feature",
    "feature_examples",
    "feature_explanations",
    "feature_judgements",
    "feature_matches",
    "feature_scores",
    "feature_step",
    "labels",
    "massive_tokens",
    "match_rates",
    "models",
    "nearest_labels",
    "nearest_words",
    "pair",
    "prepare",
    "provenance",
    "random_feature",
    "runs",
    "stage_runs",
    "trends",
    "typical_seconds",
]

_KEPT = {
    "dictionaries": "dictionary_id",
    "activation_sets": "activation_set_id",
    "feature_cards": "dictionary_id, activation_set_id, feature_index",
}


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a connection fast for pages that query the same version of the catalogue many times.

    The connection caches the footers of Parquet files, which never change. It also stores the rows of
    ``feature_cards`` and of the small tables that every page joins, under the same names. The rows are
    sorted,
    so that a query of few features skips the others.
    """
    connection.execute("set parquet_metadata_cache = true")
    for name, order in _KEPT.items():
        connection.execute(f"create table kept as from {name} order by {order}")
        connection.execute(f"drop view {name}")
        connection.execute(f"alter table kept rename to {name}")


def dictionaries(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Every dictionary with size, fidelity, coverage and labels above chance; random directions too."""
    return read(connection, "dictionaries", {})


def dictionary_metrics(connection: duckdb.DuckDBPyConnection, *, dictionary_ids: Sequence[str]) -> pa.Table:
    """Metric values of some dictionaries with their controls, including suites and import certificates."""
    return read(connection, "dictionary_metrics", {"dictionary_ids": list(dictionary_ids)})


def models(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Every language model with its activations, dictionaries and features."""
    return read(connection, "models", {})


def damage(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Data files that are missing or damaged, none in an intact catalogue; paths are relative."""
    return read(connection, "damage", {})


def massive_tokens(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Activation sets in which some tokens have a massive norm."""
    return read(connection, "massive_tokens", {})


def changes(
    connection: duckdb.DuckDBPyConnection, *, per_kind: int = 8, limit: int = 100, offset: int = 0
) -> pa.Table:
    """Changes of the last finished run: dictionaries, labels and matches, up to a limit of each kind."""
    return read(connection, "changes", {"per_kind": per_kind, "limit": limit, "offset": offset})


def browse(
    connection: duckdb.DuckDBPyConnection,
    *,
    dictionary_id: str | None = None,
    model_id: str | None = None,
    status: str | None = None,
    density_low: float | None = None,
    density_high: float | None = None,
    score_low: float | None = None,
    matched: bool | None = None,
    words: Sequence[str] | None = None,
    token: str | None = None,
    feature_index: int | None = None,
    sort: Sort = "score",
    limit: int = 50,
    offset: int = 0,
) -> pa.Table:
    """One page of features that fit the filters; ``n_found`` counts all that fit.

    ``words`` (lower case) must all occur in the label; ``token`` in a top token. The order ``score`` uses the
    lower end of the score's interval, dense features last; ``_up`` and ``_down`` set the direction of an
    order.
    """
    parameters = {
        "dictionary_id": dictionary_id,
        "model_id": model_id,
        "status": status,
        "density_low": density_low,
        "density_high": density_high,
        "score_low": score_low,
        "matched": matched,
        "words": list(words) if words else None,
        "token": token or None,
        "feature_index": feature_index,
        "sort": sort,
        "limit": limit,
        "offset": offset,
    }
    return read(connection, "browse", parameters)


def alias(connection: duckdb.DuckDBPyConnection, *, alias: str) -> pa.Table:
    """What a name refers to now and how many dictionaries it referred to; no row if it is not an alias."""
    return read(connection, "alias", {"alias": alias})


def nearest_words(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str | None = None, words: Sequence[str]
) -> pa.Table:
    """The closest hits for a search without results: words of labels, and tokens, with their features."""
    return read(connection, "nearest_words", {"dictionary_id": dictionary_id, "words": list(words)})


def nearest_labels(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str | None = None, words: Sequence[str]
) -> pa.Table:
    """Labels that hold at least one of ``words`` (lower case), each with its best feature."""
    return read(connection, "nearest_labels", {"dictionary_id": dictionary_id, "words": list(words)})


def random_feature(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str | None = None, seed: int
) -> pa.Table:
    """One firing feature of a dictionary, or of all current ones; the same for the same ``seed``."""
    return read(connection, "random_feature", {"dictionary_id": dictionary_id, "seed": seed})


def feature(
    connection: duckdb.DuckDBPyConnection,
    *,
    dictionary_id: str,
    feature_index: int,
    activation_set_id: str | None = None,
) -> pa.Table:
    """One feature with its dictionary and activation set; no row if it was not mined."""
    parameters = {
        "dictionary_id": dictionary_id,
        "feature_index": feature_index,
        "activation_set_id": activation_set_id,
    }
    return read(connection, "feature", parameters)


def feature_step(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str, activation_set_id: str, feature_index: int
) -> pa.Table:
    """Index of the firing features before and after one."""
    key = {"dictionary_id": dictionary_id, "feature_index": feature_index}
    return read(connection, "feature_step", {**key, "activation_set_id": activation_set_id})


def feature_examples(
    connection: duckdb.DuckDBPyConnection,
    *,
    files: Sequence[str],
    dictionary_id: str,
    activation_set_id: str,
    feature_index: int,
) -> pa.Table:
    """The mined contexts of one feature, from the files of its block (as the store names them)."""
    key = {"dictionary_id": dictionary_id, "feature_index": feature_index}
    return read(connection, "feature_examples", {**key, "activation_set_id": activation_set_id}, files)


def feature_explanations(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str, feature_index: int
) -> pa.Table:
    """Every explanation of a feature, newest first."""
    return read(
        connection, "feature_explanations", {"dictionary_id": dictionary_id, "feature_index": feature_index}
    )


def feature_scores(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str, feature_index: int
) -> pa.Table:
    """The newest scores of every explanation of a feature, by scorer and judge."""
    return read(
        connection, "feature_scores", {"dictionary_id": dictionary_id, "feature_index": feature_index}
    )


def feature_judgements(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str, feature_index: int, explanation_id: str
) -> pa.Table:
    """The judged items of one explanation, of its newest scores."""
    key = {"dictionary_id": dictionary_id, "feature_index": feature_index}
    return read(connection, "feature_judgements", {**key, "explanation_id": explanation_id})


def feature_matches(
    connection: duckdb.DuckDBPyConnection, *, dictionary_id: str, feature_index: int
) -> pa.Table:
    """Matching features of other dictionaries, best first."""
    return read(
        connection, "feature_matches", {"dictionary_id": dictionary_id, "feature_index": feature_index}
    )


def labels(
    connection: duckdb.DuckDBPyConnection, *, dictionary_ids: Sequence[str], feature_indices: Sequence[int]
) -> pa.Table:
    """Best labels of some features: one dictionary and one index for each, in two lists of equal length."""
    parameters = {"dictionary_ids": list(dictionary_ids), "feature_indices": list(feature_indices)}
    return read(connection, "labels", parameters)


def provenance(connection: duckdb.DuckDBPyConnection, *, fingerprints: Sequence[str]) -> pa.Table:
    """The stage attempts that produced some rows."""
    return read(connection, "provenance", {"fingerprints": list(fingerprints)})


def document(connection: duckdb.DuckDBPyConnection, *, corpus_id: str, document_id: str) -> pa.Table:
    """One document of a corpus with its full text."""
    return read(connection, "document", {"corpus_id": corpus_id, "document_id": document_id})


def runs(connection: duckdb.DuckDBPyConnection, *, limit: int = 50) -> pa.Table:
    """Runs, newest first."""
    return read(connection, "runs", {"limit": limit})


def stage_runs(connection: duckdb.DuckDBPyConnection, *, run_id: str) -> pa.Table:
    """Stage attempts of one run."""
    return read(connection, "stage_runs", {"run_id": run_id})


def typical_seconds(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Typical duration of each stage in seconds."""
    return read(connection, "typical_seconds", {})


def trends(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """Main metrics of each alias over its retrainings."""
    return read(connection, "trends", {})


def columns(connection: duckdb.DuckDBPyConnection, *, relation: str) -> pa.Table:
    """Columns of a table or view with their DuckDB types."""
    return read(connection, "columns", {"relation": relation})
