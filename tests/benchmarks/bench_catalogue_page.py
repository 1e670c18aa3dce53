"""The feature page over 20 million example rows and 1 million features, against a native DuckDB table.

The rows are made here and written through the store as a stage writes them: five dictionaries of 200,000
features, twenty contexts each. The example query, all queries of the page, search and overview are timed in
one interleaved run; cold means a new connection and the file dropped from the page cache.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from catalog import queries
from catalog.connection import connect, prepare
from catalog.ids import slug
from catalog.query import query_text
from catalog.schemas import FEATURES_PER_BLOCK, feature_block
from catalog.slices import SliceWrite
from catalog.snapshot import Snapshot
from catalog.store import TableStore

N_DICTIONARIES, N_FEATURES, N_EXAMPLES, N_TOKENS = 5, 200_000, 20, 24
REPEATS = 15
SET = "bench/blocks.2.resid_post-00000000"
MOMENT = datetime(2026, 11, 20, tzinfo=UTC)
WORDS = [
    "return",
    "value",
    "of",
    "the",
    "function",
    "self",
    "index",
    "list",
    "open",
    "path",
    "error",
    "name",
    "class",
    "token",
]

EXAMPLES = """
select $dictionary as dictionary_id, $set as activation_set_id, f.i::int as feature_index,
    case when r.i < 10 then 'top' when r.i < 15 then 'q1' else 'random' end as band,
    case when r.i < 10 then r.i when r.i < 15 then r.i - 10 else r.i - 15 end::int as rank,
    (hash(f.i, r.i) % 100000)::int as sequence_index, 0::int as token_start,
    'doc-' || (hash(f.i, r.i) % 5000) as document_id, 0::int as char_start, 120::int as char_end,
    t.token_ids, t.tokens, list_transform(t.shape, lambda x: (x * (20 - r.i))::float) as activations,
    t.peak as peak_position, (20 - r.i)::float as max_activation, 'explain' as split
from range($first, $first + $n) as f(i), range($examples) as r(i)
join templates as t on t.id = (hash(f.i, r.i) % 2000)::int
order by f.i, band, rank
"""
TEMPLATES = """
create table templates as
select t.i::int as id, list((hash(t.i, p.i) % 4000)::int order by p.i) as token_ids,
    list(' w' || (hash(t.i, p.i) % 4000) order by p.i) as tokens,
    list((case p.i when t.i % 24 then 1 when (t.i + 1) % 24 then 0.4 else 0 end)::float order by p.i)
        as shape,
    (t.i % 24)::int as peak
from range(2000) as t(i), range($tokens) as p(i)
group by t.i
"""
FEATURES = """
select $dictionary as dictionary_id, $set as activation_set_id, i::int as feature_index, 'alive' as status,
    100::bigint as n_tokens, 1e-6 * (1 + hash(i) % 10000) as density, 20::float as max_activation,
    6::float as mean_activation, [{'q': 0.5::float, 'value': 5::float}] as quantiles,
    list_transform(range(24), lambda b: {'low': b::float, 'high': (b + 1)::float, 'n': 24 - b}) as histogram,
    1::float as decoder_norm, 0.7::float as encoder_decoder_cosine,
    list_transform(range(10), lambda t: {'token_id': t::int, 'token': 'w' || t, 'logit': t::float})
        as top_logits,
    list_transform(range(10), lambda t: {'token_id': t::int, 'token': 'w' || t, 'logit': -t::float})
        as bottom_logits,
    list_transform(range(1, 6), lambda k: {'feature_index': ((i + k) % $n)::int, 'score': 0.5::float})
        as nearest_by_decoder,
    list_transform(range(6, 11), lambda k: {'feature_index': ((i + k) % $n)::int, 'score': 0.5::float})
        as nearest_by_coactivation,
    [' w' || (hash(i) % 4000)] as top_tokens
from range($n) as f(i)
"""
EXPLANATIONS = """
select $dictionary || '-' || i as explanation_id, $dictionary as dictionary_id, $set as activation_set_id,
    i::int as feature_index, 'lexical' as explainer, null::varchar as model, 'p' as prompt_digest,
    'the ' || $words[1 + (hash(i) % 14)::int] || ' before ' || $words[1 + (hash(i, 1) % 14)::int]
        || ' in ' || i as text,
    '{}' as predicate, 'ok' as status, null::varchar as error, null::varchar as call_id, $at as created_at
from range($n) as f(i)
"""
SCORES = """
select $dictionary || '-' || i as explanation_id, $dictionary as dictionary_id, $set as activation_set_id,
    i::int as feature_index, 'predicate' as scorer, 'none' as judge, 'balanced_accuracy' as metric,
    v.name as variant, 0::int as seed, 0.5 + (hash(i, v.name) % 500) / 1000 as value,
    0.42 + (hash(i, v.name) % 500) / 1000 as ci_low, 0.56 + (hash(i, v.name) % 500) / 1000 as ci_high,
    0.5 as chance, 40::int as n, 1.0 as answered_share, v.name as negatives, $at as created_at
from range($n) as f(i), (values ('random'), ('neighbour')) as v(name)
"""
MATCHES = """
select $dictionary as dictionary_a, i::int as feature_a, $other as dictionary_b,
    ((i * 7) % $n)::int as feature_b,
    'activation_correlation' as method, $set as activation_sets, 0.8 as score, 0::int as rank,
    i % 5 = 0 as mutual, 0.1 as margin, 1000::bigint as n, 0.01 as p_value, 0.02 as q_value, 'same' as verdict
from range($n) as f(i)
"""


def main() -> str:
    """Write the catalogue, time the page, and report; needs about 8 GB of disk for a while."""
    folder = Path(tempfile.mkdtemp(prefix="featlas-page-"))
    try:
        started = time.perf_counter()
        snapshot = build(folder / "catalogue")
        built = time.perf_counter() - started
        native = _native(folder / "native.duckdb", snapshot)
        return report(snapshot, native, built)
    finally:
        shutil.rmtree(folder)


def dictionary(number: int) -> str:
    """Id of one dictionary."""
    return f"bench/blocks.2.resid_post/topk-x256-k32-s{number}-{number:08x}"


def build(root: Path) -> Snapshot:
    """Write all rows through the store."""
    source = duckdb.connect()
    source.execute(TEMPLATES, {"tokens": N_TOKENS})
    store = TableStore(root)
    for number in range(N_DICTIONARIES):
        named = dictionary(number)
        common = {"dictionary": named, "set": SET, "n": N_FEATURES}
        dated = {**common, "at": MOMENT}

        def rows(sql: str, parameters: dict[str, Any]) -> pa.Table:
            return source.sql(sql, params=parameters).to_arrow_table()

        other = {**common, "other": dictionary((number + 1) % N_DICTIONARIES)}
        slices = [
            SliceWrite("dictionaries", named, _dictionary_row(named)),
            SliceWrite("features", named, rows(FEATURES, common)),
            SliceWrite("explanations", named, rows(EXPLANATIONS, {**dated, "words": WORDS})),
            SliceWrite("scores", named, rows(SCORES, dated)),
            SliceWrite("matches", named, rows(MATCHES, other)),
            SliceWrite("examples", named, _examples(source, named)),
        ]
        store.publish(slices, fingerprint=f"{number:064x}")
    return store.snapshot()


def _dictionary_row(named: str) -> pa.Table:
    hook = [{"model_id": "bench", "hookpoint": "blocks.2.resid_post"}]
    row = {
        "dictionary_id": named,
        "alias": named.rpartition("-")[0],
        "reads": hook,
        "writes": hook,
        "unit_type": "latent",
        "architecture": "topk",
        "d_in": 768,
        "d_sae": N_FEATURES,
        "config": "{}",
        "weights_uri": "_blobs/dictionaries/bench",
        "weights_digest": "0" * 64,
        "activation_set_id": SET,
        "origin": "trained",
        "verified": True,
        "created_at": MOMENT,
    }
    return pa.Table.from_pylist([row])


def _examples(source: duckdb.DuckDBPyConnection, named: str) -> Iterator[pa.RecordBatch]:
    for first in range(0, N_FEATURES, FEATURES_PER_BLOCK):
        parameters = {
            "dictionary": named,
            "set": SET,
            "first": first,
            "n": FEATURES_PER_BLOCK,
            "examples": N_EXAMPLES,
        }
        yield from source.sql(EXAMPLES, params=parameters).to_arrow_table().to_batches()


def _native(path: Path, snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path), config={"threads": 2})
    connection.execute(
        "create table examples as select * from read_parquet($files, hive_partitioning = false)",
        {"files": _in_order(snapshot)},
    )
    return connection


def _in_order(snapshot: Snapshot) -> list[str]:
    """The files as the features are ordered, so that the native table is sorted too."""
    files = snapshot.files("examples")
    ordered = sorted(files, key=lambda f: (f.partition["dictionary_slug"], int(f.partition["feature_block"])))
    return [str(snapshot.root / file.path) for file in ordered]


NATIVE = query_text("feature_examples")


def report(snapshot: Snapshot, native: duckdb.DuckDBPyConnection, built: float) -> str:
    """Time everything in turn and say the medians in milliseconds."""
    connection = connect(snapshot=snapshot)
    started = time.perf_counter()
    prepare(connection)
    kept = time.perf_counter() - started
    times: dict[str, list[float]] = {}

    def note(name: str, call: Callable[[], Any]) -> None:
        started = time.perf_counter()
        call()
        times.setdefault(name, []).append(1000 * (time.perf_counter() - started))

    for repeat in range(REPEATS):
        named = dictionary(repeat % N_DICTIONARIES)
        index = (repeat * 7919) % N_FEATURES
        key = {"dictionary_id": named, "feature_index": index}
        files = snapshot.paths("examples", dictionary_slug=slug(named), feature_block=feature_block(index))
        place = {**key, "activation_set_id": SET}
        note("native", lambda: native.sql(NATIVE, params=place).to_arrow_table())  # noqa: B023
        _drop(files)
        fresh = connect(snapshot=snapshot)
        note("examples, cold", lambda: queries.feature_examples(files=files, **place).read(fresh))  # noqa: B023
        note("examples", lambda: queries.feature_examples(files=files, **place).read(connection))  # noqa: B023
        for name, call in _page(connection, key, place, index):
            note(f"page: {name}", call)
        note("search labels", lambda: queries.browse(words=["return", "before"]).read(connection))
        note("browse", lambda: queries.browse().read(connection))
        note("overview", lambda: queries.dictionaries().read(connection))
    return _lines({name: statistics.median(values) for name, values in times.items()}, snapshot, built, kept)


def _page(
    connection: duckdb.DuckDBPyConnection, key: dict[str, Any], place: dict[str, Any], index: int
) -> Iterator[tuple[str, Callable[[], Any]]]:
    near = sorted((index + step) % N_FEATURES for step in range(1, 11))
    yield "feature", lambda: queries.feature(**place).read(connection)
    yield "step", lambda: queries.feature_step(**place).read(connection)
    yield "explanations", lambda: queries.feature_explanations(**key).read(connection)
    yield "scores", lambda: queries.feature_scores(**key).read(connection)
    yield "matches", lambda: queries.feature_matches(**key).read(connection)
    yield (
        "labels",
        lambda: queries.labels(dictionary_ids=[key["dictionary_id"]] * len(near), feature_indices=near).read(
            connection
        ),
    )
    yield "provenance", lambda: queries.provenance(fingerprints=["0" * 64]).read(connection)


def _drop(files: list[str]) -> None:
    """Take files out of the page cache, so that the next read comes from the disk."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _lines(medians: dict[str, float], snapshot: Snapshot, built: float, kept: float) -> str:
    files = snapshot.files("examples")
    n_rows, n_bytes = sum(f.rows for f in files), sum(f.n_bytes for f in files)
    page = medians["examples"] + sum(v for name, v in medians.items() if name.startswith("page: "))
    native, warm, cold = medians["native"], medians["examples"], medians["examples, cold"]
    rows = [f"| {name} | {value:.1f} |" for name, value in medians.items()]
    return "\n".join(
        [
            f"{n_rows:,} example rows in {len(files)} files, {n_bytes / 1e9:.2f} GB; "
            f"{N_DICTIONARIES * N_FEATURES:,} features; everything written in {built:.0f} s; "
            f"cards kept in memory once per version in {kept:.1f} s.",
            "",
            "| query | median ms |",
            "|--|--|",
            *rows,
            "",
            f"Example query / native table: {warm / native:.2f} (goal at most 3). "
            f"All queries of the page / (3 x native): {page / (3 * native):.2f} (goal at most 4). "
            f"Cold / warm: {cold / warm:.2f} (goal at most 4).",
        ]
    )


if __name__ == "__main__":
    sys.exit(print(main()))
