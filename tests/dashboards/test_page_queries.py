"""The named queries on the synthetic catalogue of the pages."""

import inspect
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import duckdb
import pytest

from catalog import queries
from catalog.connection import connect
from catalog.ids import slug
from catalog.queries import Sort
from catalog.query import SQL_FOLDER
from catalog.schemas import feature_block
from catalog.store import TableStore
from dashboards.components.browse_parts import HEADS
from dashboards.components.filters import ORDERS

NAMES = sorted(path.stem for path in SQL_FOLDER.glob("*.sql"))


@pytest.fixture(scope="module")
def connection(catalogue: Path) -> duckdb.DuckDBPyConnection:
    """A connection on the synthetic catalogue."""
    return connect(catalogue)


@pytest.fixture(scope="module")
def values(catalogue: Path, synthetic: ModuleType) -> dict[str, Any]:
    """A value for every parameter that a query must be given."""
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    snapshot = TableStore(catalogue).snapshot()
    files = [
        snapshot.paths("examples", dictionary_slug=slug(d), feature_block=feature_block(5)) for d in (a, b)
    ]
    return {
        "dictionary_id": a,
        "feature_index": 5,
        "activation_set_id": synthetic.activation_set_of("pico-a"),
        "files": files[0] + files[1],
        "dictionary_a": a,
        "feature_a": 5,
        "dictionary_b": b,
        "feature_b": 8,
        "explanation_id": "pico-a-5",
        "dictionary_ids": [a, a, b],
        "feature_indices": [1, 2, 3],
        "fingerprints": [_fingerprint(catalogue)],
        "corpus_id": synthetic.CORPUS,
        "document_id": "doc-3",
        "run_id": synthetic.RUN,
        "relation": "feature_cards",
        "alias": a.rpartition("-")[0],
        "words": ["retrun", "return"],
        "seed": 7,
        "set_a": synthetic.activation_set_of("pico-a"),
        "set_b": synthetic.activation_set_of("pico-b"),
        "comparison": "models pico-a | pico-b",
        "start": "pico-a",
        "limit": 5,
        "name": "doc-3",
        "text": synthetic.document_text(3),
        "corpora": ["another"],
        "floors": ["frozen_decoder"],
        "floor_dictionaries": [b],
        "floor_sets": [synthetic.activation_set_of("pico-b")],
    }


def _fingerprint(catalogue: Path) -> str:
    return str(connect(catalogue).sql("select fingerprint from features limit 1").fetchall()[0][0])


@pytest.mark.parametrize("name", NAMES)
def test_every_query_finds_its_rows(
    name: str, connection: duckdb.DuckDBPyConnection, values: dict[str, Any]
) -> None:
    function = getattr(queries, name)
    parameters = inspect.signature(function).parameters.values()
    needed = {p.name: values[p.name] for p in parameters if p.default is p.empty}
    found = function(**needed).read(connection)
    columns = found.column_names
    assert len(columns) == len(set(columns))
    may_be_empty = ("trends", "damage", "alarms", "corpus_settings", "forgotten_before")
    assert 0 < found.num_rows <= 1000 or name in may_be_empty


@pytest.mark.parametrize("name", ["feature_examples", "common_contexts"])
def test_files_stand_for_the_whole_table(
    name: str, connection: duckdb.DuckDBPyConnection, values: dict[str, Any]
) -> None:
    function = getattr(queries, name)
    parameters = inspect.signature(function).parameters.values()
    given = {p.name: values[p.name] for p in parameters if p.default is p.empty}
    whole = function(**given).read(connection)
    assert whole.num_rows > 0
    assert function(**given, files=values["files"]).read(connection).equals(whole)
    assert function(**given, files=()).read(connection).num_rows == 0


@pytest.mark.parametrize(
    ("filters", "n_found"),
    [
        ({}, 320),
        ({"status": "unseen"}, 2),
        ({"status": "dense"}, 2),
        ({"model_id": "pico-a"}, 160),
        ({"density_low": 0.1}, 2),
        ({"density_high": 0.0}, 2),
        ({"matched": True}, 64),
        ({"matched": False}, 256),
        ({"words": ["self", "method"]}, 36),
        ({"token": "SCRIPT"}, 108),
        ({"score_low": 0.85}, None),
    ],
)
def test_browse_filters(
    connection: duckdb.DuckDBPyConnection, filters: dict[str, Any], n_found: int | None
) -> None:
    rows = queries.browse(limit=1000, **filters).read(connection).to_pylist()
    assert all(row["n_found"] == len(rows) for row in rows)
    if n_found is None:
        assert rows
        assert all(row["ci_low"] >= 0.85 for row in rows)
    else:
        assert len(rows) == n_found


@pytest.mark.parametrize(
    "words", [["self"], ["self", "method"], ["self", "method", "e"], ["zz", "self", "e"]]
)
def test_browse_finds_the_labels_with_every_word(
    connection: duckdb.DuckDBPyConnection, words: list[str]
) -> None:
    found = queries.browse(limit=1000, words=words).read(connection)["label"].to_pylist()
    labels = queries.browse(limit=1000).read(connection)["label"].to_pylist()
    assert len(labels) == 320
    expected = [label for label in labels if label and all(word in label.lower() for word in words)]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("score", lambda r: (r["status"] == "dense", -(r["ci_low"] if r["ci_low"] is not None else -1))),
        ("density", lambda r: -r["density"]),
        ("rare", lambda r: r["density"] or 9),
        ("activation", lambda r: -(r["max_activation"] or 0)),
        ("matches", lambda r: -r["n_matches"]),
        ("index", lambda r: (r["dictionary_id"], r["feature_index"])),
        ("score_up", lambda r: r["ci_low"] if r["ci_low"] is not None else 9),
        ("activation_up", lambda r: r["max_activation"] or 99),
        ("matches_up", lambda r: r["n_matches"]),
        ("label", lambda r: (r["label"] is None, (r["label"] or "").lower())),
        ("index_down", lambda r: -r["feature_index"]),
    ],
)
def test_browse_orders(connection: duckdb.DuckDBPyConnection, sort: Sort, key: Any) -> None:
    rows = queries.browse(sort=sort, limit=1000).read(connection).to_pylist()
    assert rows == sorted(rows, key=key)


def test_every_order_has_a_name_and_turns_round(connection: duckdb.DuckDBPyConnection) -> None:
    assert set(get_args(Sort)) == set(ORDERS)
    for order, reverse in HEADS.values():
        first, last = (queries.browse(sort=sort, limit=1).read(connection) for sort in (order, reverse))
        assert first.to_pylist() != last.to_pylist()


def test_a_number_is_looked_up_in_every_dictionary(connection: duckdb.DuckDBPyConnection) -> None:
    found = queries.browse(feature_index=73).read(connection).to_pylist()
    assert [row["feature_index"] for row in found] == [73, 73]


def test_a_misspelt_word_finds_its_neighbours(connection: duckdb.DuckDBPyConnection) -> None:
    found = queries.nearest_words(words=["retrun", "asert"]).read(connection).to_pylist()
    assert {("label", "return"), ("token", "assert")} <= {(row["kind"], row["word"]) for row in found}


def test_random_features_fire_and_follow_their_number(connection: duckdb.DuckDBPyConnection) -> None:
    picked = [queries.random_feature(seed=seed).read(connection).to_pylist()[0] for seed in range(12)]
    assert len({(row["dictionary_id"], row["feature_index"]) for row in picked}) > 6
    assert all(row["feature_index"] != 7 for row in picked), "it never fired"
    assert queries.random_feature(seed=3).read(connection).to_pylist()[0] == picked[3]


def test_pages_of_browse_join_without_gap(connection: duckdb.DuckDBPyConnection) -> None:
    whole = queries.browse(limit=1000).read(connection).to_pylist()
    parts = [queries.browse(limit=50, offset=50 * page).read(connection).to_pylist() for page in range(7)]
    assert [row for part in parts for row in part] == whole


def test_superseded_dictionaries_are_shown_only_when_asked_for(
    catalogue: Path, tmp_path: Path, synthetic: ModuleType
) -> None:
    root = tmp_path / "retrained"
    shutil.copytree(catalogue, root)
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    synthetic.publish_alias(root, a.rpartition("-")[0], b)
    retrained = connect(root)
    found = queries.browse(limit=1000).read(retrained).column("dictionary_id").unique().to_pylist()
    assert found == [b]
    assert queries.browse(dictionary_id=a, limit=1000).read(retrained).num_rows == synthetic.N_FEATURES
    current = {
        r["dictionary_id"]: r["is_current"] for r in queries.dictionaries().read(retrained).to_pylist()
    }
    assert current == {a: False, b: True}
