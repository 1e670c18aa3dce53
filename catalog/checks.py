"""Checks of the data: unique keys, nulls, enumerations, ranges, references, sizes of slices.

Each check is a query that finds faulty rows; its answer becomes one line. No text comes from a user: table
and column names are those of ``schemas``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.relations import quoted
from catalog.schemas import TABLES, TableSpec

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

WHOLE_TABLE_ROWS = 5_000_000
"""The search for doubled keys holds all keys of a table in memory."""
UNLISTED = ("stage_runs", "slices")

REFERENCES = (
    ("documents", "corpus_id", "corpora", "corpus_id"),
    ("forgotten_documents", "corpus_id", "corpora", "corpus_id"),
    ("activation_sets", "model_id", "models", "model_id"),
    ("activation_sets", "corpus_id", "corpora", "corpus_id"),
    ("sequences", "activation_set_id", "activation_sets", "activation_set_id"),
    ("dictionaries", "parent_dictionary_id", "dictionaries", "dictionary_id"),
    ("dictionary_metrics", "dictionary_id", "dictionaries", "dictionary_id"),
    ("dictionary_metrics", "activation_set_id", "activation_sets", "activation_set_id"),
    ("training_log", "dictionary_id", "dictionaries", "dictionary_id"),
    ("features", "dictionary_id", "dictionaries", "dictionary_id"),
    ("features", "activation_set_id", "activation_sets", "activation_set_id"),
    ("examples", "dictionary_id", "dictionaries", "dictionary_id"),
    ("examples", "activation_set_id", "activation_sets", "activation_set_id"),
    ("associations", "dictionary_id", "dictionaries", "dictionary_id"),
    ("decodability", "dictionary_id", "dictionaries", "dictionary_id"),
    ("feature_shifts", "dictionary_id", "dictionaries", "dictionary_id"),
    ("feature_neighbours", "dictionary_id", "dictionaries", "dictionary_id"),
    ("feature_neighbours", "activation_set_id", "activation_sets", "activation_set_id"),
    ("explanations", "dictionary_id", "dictionaries", "dictionary_id"),
    ("scores", "explanation_id", "explanations", "explanation_id"),
    ("judgements", "explanation_id", "explanations", "explanation_id"),
    ("matches", "dictionary_a", "dictionaries", "dictionary_id"),
    ("matches", "dictionary_b", "dictionaries", "dictionary_id"),
    ("concept_members", "concept_id", "concepts", "concept_id"),
    ("concept_members", "dictionary_id", "dictionaries", "dictionary_id"),
    ("interventions", "dictionary_id", "dictionaries", "dictionary_id"),
    ("aliases", "dictionary_id", "dictionaries", "dictionary_id"),
)
"""Table and column, and the table and column that must contain the value."""

RANGES = (
    ("features", "density not between 0 and 1", "a density outside 0 to 1"),
    ("features", "feature_index < 0", "a negative feature_index"),
    ("features", "(status = 'unseen') <> (n_tokens = 0)", "a status that contradicts n_tokens"),
    ("examples", "char_end < char_start", "a char_end before char_start"),
    ("examples", "len(tokens) <> len(activations)", "tokens and activations of different length"),
    ("examples", "len(tokens) <> len(token_ids)", "tokens and token_ids of different length"),
    ("examples", "len(is_special) <> len(tokens)", "tokens and is_special of different length"),
    ("examples", "peak_position not between 0 and len(tokens) - 1", "a peak_position outside its tokens"),
    ("examples", "feature_block <> feature_index // 1000", "a wrong feature_block"),
    ("feature_neighbours", "feature_index = neighbour_index", "a feature that is its own neighbour"),
    ("feature_neighbours", "abs(cosine) > 1.001", "a cosine outside -1 to 1"),
    ("feature_neighbours", "abs(pearson) > 1.001", "a correlation outside -1 to 1"),
    ("feature_neighbours", "n_both > n_tokens", "more common tokens than tokens"),
    ("feature_neighbours", "confounded <> (document_q <= 0.05)", "a flag that contradicts document_q"),
    ("explanations", "(status = 'ok') <> (text is not null)", "a text that contradicts its status"),
    ("explanations", "status <> 'ok' and error is null", "a failed explanation without an error"),
    ("scores", "ci_low > ci_high", "an interval whose low end is above its high end"),
    ("scores", "answered_share not between 0 and 1", "an answered_share outside 0 to 1"),
    ("scores", "metric = 'balanced_accuracy' and value not between 0 and 1", "a score outside 0 to 1"),
    ("scores", "metric = 'auroc' and value not between 0 and 1", "a score outside 0 to 1"),
    ("scores", "metric = 'correlation' and abs(value) > 1.0001", "a score outside -1 to 1"),
    ("judgements", "probability not between 0 and 1", "a probability outside 0 to 1"),
    ("matches", "abs(score) > 1.0001", "a score outside -1 to 1"),
    ("matches", "p_value not between 0 and 1", "a p_value outside 0 to 1"),
    ("sequences", "len(token_ids) <> len(document_ids)", "token_ids and document_ids of different length"),
    ("documents", "length(text) <> n_chars and not contains(text, chr(0))", "n_chars that differs from text"),
    ("llm_calls", "cost_usd < 0", "a negative cost"),
)
"""Table, the condition of a faulty row, and a description of such a row."""

_SLICES = """
with live as (
    select slice, count(*) as n from {table} group by slice
),
listed as (
    select
        slice,
        slices.rows,
        {append_only} or place = max(place) over (partition by o.subject) as is_current
    from slices
    join commit_order as o using (table_name, slice)
    where table_name = {name}
)
select slice, coalesce(live.n, 0), listed.rows
from live
full join listed using (slice)
where listed.rows is null or (listed.is_current or live.n > 0) and listed.rows <> coalesce(live.n, 0)
"""


def check_data(connection: "DuckDBPyConnection") -> Iterator[str]:
    """One line per fault in the rows that ``connection`` reads."""
    counts = {name: _count(connection, f"select count(*) from {name}") for name in TABLES}
    for spec in TABLES.values():
        if not counts[spec.name]:
            continue
        yield from _check_columns(connection, spec)
        if counts[spec.name] <= WHOLE_TABLE_ROWS:
            yield from _check_key(connection, spec)
        if spec.name not in UNLISTED:
            yield from _check_slices(connection, spec)
    for table, condition, description in RANGES:
        n_bad = _count(connection, f"select count(*) from {table} where {condition}") if counts[table] else 0
        if n_bad:
            yield f"{table}: {n_bad} rows with {description}"
    for table, column, target, target_column in REFERENCES:
        if counts[table]:
            yield from _check_reference(connection, table, column, target, target_column)


def _check_columns(connection: "DuckDBPyConnection", spec: TableSpec) -> Iterator[str]:
    tests: list[tuple[str, str]] = []
    for column in spec.columns:
        name = f'"{column.name}"'
        if not column.nullable and column.since == 1:
            tests.append((f"{name} is null", f"null in {column.name}"))
        if pa.types.is_floating(column.type):
            tests.append((f"not isfinite({name})", f"NaN or infinite {column.name}"))
        if column.values:
            allowed = ", ".join(quoted(value) for value in column.values)
            tests.append(
                (f"{name} not in ({allowed})", f"{column.name} other than {', '.join(column.values)}")
            )
    counts = ", ".join(f"count_if({condition})" for condition, _ in tests)
    found = connection.execute(f"select {counts} from {spec.name}").fetchone()
    for n_bad, (_, description) in zip(found or (), tests, strict=True):
        if n_bad:
            yield f"{spec.name}: {n_bad} rows with {description}"


def _check_key(connection: "DuckDBPyConnection", spec: TableSpec) -> Iterator[str]:
    key = ", ".join(f'"{name}"' for name in spec.key)
    groups = f"select count(*) as n from {spec.name} group by {key}"
    n_bad = _count(connection, f"select coalesce(sum(n - 1), 0) from ({groups}) where n > 1")
    if n_bad:
        yield f"{spec.name}: {n_bad} rows repeat a key ({', '.join(spec.key)})"


def _check_slices(connection: "DuckDBPyConnection", spec: TableSpec) -> Iterator[str]:
    text = _SLICES.format(table=spec.name, name=quoted(spec.name), append_only=str(spec.append_only).lower())
    rows = connection.execute(text).fetchall()
    for name, n_live, n_listed in rows:
        if n_listed is None:
            yield f"{spec.name}: slice {name} has {n_live} rows and is not listed in slices"
        elif not (spec.append_only and 0 < n_live < n_listed):
            yield f"{spec.name}: slice {name} has {n_live} rows, but {n_listed} were committed"


def _check_reference(
    connection: "DuckDBPyConnection", table: str, column: str, target: str, target_column: str
) -> Iterator[str]:
    rows = connection.execute(
        f"select {column}, count(*) from {table} where {column} is not null and {column} not in "
        f"(select {target_column} from {target}) group by {column} order by {column} limit 3"
    ).fetchall()
    for value, n_rows in rows:
        yield f"{table}: {n_rows} rows name {column} {value!r}, which is not in {target}"


def _count(connection: "DuckDBPyConnection", sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
