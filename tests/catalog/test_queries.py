"""Every SQL file has one typed function that binds all its parameters, and every function its file."""

import inspect
import re
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog import page_queries, queries
from catalog.connection import connect
from catalog.data_dictionary import README, updated
from catalog.errors import UserError
from catalog.ids import slug
from catalog.schemas import TABLES, feature_block
from catalog.search import highlights, search
from catalog.store import TableStore

FILES = sorted(p.stem for p in queries.SQL_FOLDER.glob("*.sql") if not p.stem.startswith("page_"))
INTERNAL = {"dictionary_names"}
COLUMNS = {
    "dictionary_geometry": "feature_index density mean_activation encoder_decoder_cosine nearest_cosine",
    "dictionary_metrics": "activation_set_id metric variant value control metric_version measured_at",
    "dictionary_record": "dictionary_id alias reads writes architecture d_sae weights_uri",
    "feature_card": "dictionary_id feature_index label score ci_low chance histogram top_logits",
    "feature_examples": "band rank tokens activations peak_position split",
    "feature_explanations": "explanation_id explainer text status score ci_low chance",
    "feature_matches": "dictionary_id feature_index method score mutual q_value label",
    "run_list": "run_id pipeline flow state started_at finished_at",
    "run_stages": "run_id stage label attempt state rows seconds fingerprint",
    "search_labels": "dictionary_id feature_index label score n_whole_words",
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("queries") / "catalogue"
    small.do_stage(root, run_id="run-1")
    return root


def arguments(root: Path, small: ModuleType, name: str) -> dict[str, object]:
    snapshot = TableStore(root).snapshot()
    files = snapshot.paths("examples", dictionary_slug=slug(small.DICTIONARY), feature_block=feature_block(1))
    known = {
        "files": files,
        "dictionary_id": small.DICTIONARY,
        "activation_set_id": small.SET,
        "feature_index": 1,
        "words": ["word"],
        "limit": 3,
    }
    accepted = inspect.signature(getattr(queries, name)).parameters
    return {key: value for key, value in known.items() if key in accepted}


def test_files_and_functions_go_together() -> None:
    assert set(FILES) - INTERNAL == set(COLUMNS)
    assert set(COLUMNS) <= set(queries.__all__)


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_a_query_binds_its_parameters_and_gives_its_columns(
    name: str, filled: Path, small: ModuleType
) -> None:
    function = getattr(queries, name)
    keywords = {p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert keywords == set(re.findall(r"\$(\w+)", queries.query_text(name)))
    with connect(filled) as connection:
        table = function(connection, **arguments(filled, small, name))
    assert isinstance(table, pa.Table)
    assert set(COLUMNS[name].split()) <= set(table.column_names)
    expected = {"feature_matches": 0, "feature_examples": 2, "search_labels": 3, "run_list": 0}
    expected |= {"dictionary_metrics": 0, "dictionary_geometry": 4}
    assert table.num_rows == expected.get(name, 1)


@pytest.mark.parametrize("mixed", [False, True])
def test_files_of_an_older_layout_are_read_with_nulls(
    mixed: bool, filled: Path, small: ModuleType, tmp_path: Path
) -> None:
    newer = [column.name for column in TABLES["examples"].columns if column.since > 1]
    given = {**arguments(filled, small, "feature_examples"), "limit": 100}
    (path,) = given["files"]
    table = pq.read_table(path, partitioning=None)
    old = str(tmp_path / "old.parquet")
    pq.write_table(table.drop_columns(newer), old)
    files = [old, path] if mixed else [old]
    page = {"files": files, "dictionary_id": small.DICTIONARY, "activation_set_id": small.SET}
    with connect(filled) as connection:
        found = queries.feature_examples(connection, **{**given, "files": files})
        on_page = page_queries.feature_examples(connection, **page, feature_index=1)
    for read in (found, on_page):
        assert read.num_rows == (4 if mixed else 2)
        assert set(newer) <= set(read.column_names)
        if not mixed:
            assert all(read[name].null_count == read.num_rows for name in newer)


def test_optional_filters_filter(filled: Path, small: ModuleType) -> None:
    with connect(filled) as connection:
        assert queries.run_stages(connection, run_id="run-1").num_rows == 1
        assert queries.run_stages(connection, run_id="other").num_rows == 0
        assert queries.search_labels(connection, words=["word"], dictionary_id="other").num_rows == 0
        other = queries.feature_card(
            connection, dictionary_id=small.DICTIONARY, feature_index=1, activation_set_id="other"
        )
        assert other.num_rows == 0


def test_search_wants_all_words_and_prefers_whole_ones(filled: Path) -> None:
    with connect(filled) as connection:
        hits = search(connection, "GENERATION wor 2")
        assert [(hit.feature_index, hit.label) for hit in hits] == [(2, "word 2 of generation 0")]
        assert hits[0].spans == ((0, 3), (5, 6), (10, 20))
        assert search(connection, "word nothing") == []
        with pytest.raises(UserError, match="give 1 to 12 words"):
            search(connection, "  ")


@pytest.mark.parametrize(
    ("label", "words", "spans"),
    [
        ("abcabc", ["ab", "bc"], ((0, 2), (3, 5))),
        ("a.b axb", ["a.b"], ((0, 3),)),
        ("İstanbul", ["stan"], ((1, 5),)),
        ("aaaa", ["a"], ((0, 4),)),
        ("", ["a"], ()),
    ],
)
def test_highlights(label: str, words: list[str], spans: tuple[tuple[int, int], ...]) -> None:
    assert highlights(label, words) == spans


def test_the_data_dictionary_is_up_to_date() -> None:
    text = README.read_text()
    assert updated(text) == text, "run `python -m catalog.data_dictionary`"


def test_every_table_is_described() -> None:
    for spec in TABLES.values():
        names = [column.name for column in spec.columns]
        assert len(set(names)) == len(names)
        assert {*spec.key, *spec.sort_by, *spec.partition_by} <= set(names)
        assert all(column.description for column in spec.columns)
        assert not any(spec.column(name).nullable for name in spec.key)


def test_no_query_is_put_together_from_strings() -> None:
    text = Path(queries.__file__).read_text()
    assert 'f"select' not in text.lower()
    assert ".format(" not in text
