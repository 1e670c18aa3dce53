"""Corpus sources: what they yield, what they refuse, and the table every stage reads."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from catalog.errors import UserError
from tasks.activations.corpora import (
    CORPUS_SOURCES,
    CorpusConfig,
    CorpusTable,
    Document,
    corpus_digest,
    corpus_table,
    split_of,
)
from tasks.activations.corpora.huggingface import HuggingFaceCorpus
from tasks.activations.corpora.table import CORPUS_SCHEMA, without_surrogates

ANY_CORPUS: TypeAdapter[object] = TypeAdapter(CorpusConfig)


def read(eval_share: float = 0.25, **config: object) -> CorpusTable:
    return corpus_table(ANY_CORPUS.validate_python(config), eval_share)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "texts.parquet"
    rows = [
        {"name": f"d{i}", "body": f"text number {i} 🙂", "topic": None if i % 3 else "art", "n": i}
        for i in range(600)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    return path


def test_known_sources() -> None:
    assert set(CORPUS_SOURCES.names()) >= {"stdlib", "parquet", "text", "huggingface"}


def test_parquet_rows_become_documents(parquet: Path) -> None:
    corpus = read(
        source="parquet", path=str(parquet), text_column="body", id_column="name", label_columns=["topic"]
    )
    assert corpus.table.schema == CORPUS_SCHEMA
    assert corpus.table["document_id"].to_pylist() == [f"d{i}" for i in range(600)]
    assert corpus.table["text"][7].as_py() == "text number 7 🙂"
    assert corpus.table["n_chars"][7].as_py() == len("text number 7 🙂")
    assert corpus.table["labels"][0].as_py() == [("topic", "art")]
    assert corpus.table["labels"][1].as_py() == [("topic", None)]
    splits = corpus.table["split"].to_pylist()
    assert splits == [split_of(f"d{i}", 0.25) for i in range(600)]
    assert 0.18 < splits.count("eval") / 600 < 0.32


def test_a_row_becomes_documents_of_some_lines(tmp_path: Path) -> None:
    path = tmp_path / "texts.parquet"
    text = "first line of five\r\n\nsecond line\n \nthird line here\nfourth line\nthe fifth ends it"
    pq.write_table(pa.Table.from_pylist([{"name": "a", "body": text, "topic": "art"}]), path)
    settings = {"source": "parquet", "path": str(path), "text_column": "body", "id_column": "name"}
    corpus = read(**settings, label_columns=["topic"], lines_per_document=2, near_duplicates=None)
    assert dict(zip(*(corpus.table[name].to_pylist() for name in ("document_id", "text")), strict=True)) == {
        "a#0": "first line of five\r\nsecond line\n",
        "a#1": "third line here\nfourth line\n",
        "a#2": "the fifth ends it",
    }
    assert set(corpus.table["labels"].to_pylist()[2]) == {("topic", "art")}
    assert read(**settings).table["document_id"].to_pylist() == ["a"]


def test_the_setting_of_lines_leaves_fingerprints_as_they_were() -> None:
    settings = {"source": "parquet", "path": "x.parquet", "text_column": "body"}
    assert "lines_per_document" not in ANY_CORPUS.validate_python(settings).canonical()
    chat = {"messages_column": "m", "model": {"id": "pico-a", "source": "embedded"}}
    both = {"source": "parquet", "path": "x", "chat": chat, "lines_per_document": 2}
    with pytest.raises(ValidationError, match="a conversation stays whole"):
        ANY_CORPUS.validate_python(both)


def test_the_same_text_in_two_layouts_has_one_digest(parquet: Path, tmp_path: Path) -> None:
    table = pq.read_table(parquet)
    folder = tmp_path / "parts"
    folder.mkdir()
    pq.write_table(table.slice(0, 250), folder / "a.parquet")
    pq.write_table(table.slice(250), folder / "b.parquet")
    common = {"source": "parquet", "text_column": "body", "id_column": "name"}
    whole = read(path=str(parquet), **common)
    parts = read(path=str(folder), **common)
    pattern = read(path=str(folder / "*.parquet"), **common)
    assert whole.digest == parts.digest == pattern.digest
    assert whole.revision != parts.revision == pattern.revision
    documents = [
        Document(name, text, {})
        for name, text in zip(*(whole.table[c].to_pylist() for c in ("document_id", "text")), strict=True)
    ]
    assert corpus_digest(documents) == whole.digest
    documents[3] = documents[3]._replace(text="another")
    assert corpus_digest(documents) != whole.digest


def test_rows_without_id_are_numbered_and_limited(parquet: Path) -> None:
    corpus = read(source="parquet", path=str(parquet), text_column="body", max_documents=3)
    assert corpus.table["document_id"].to_pylist() == ["row-00000000", "row-00000001", "row-00000002"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "/nowhere/x.parquet"}, "no .parquet file"),
        ({"text_column": "nope"}, "no column 'nope': its columns are body, n, name, topic"),
        ({"text_column": "n"}, "holds int, not text"),
        ({"id_column": "topic"}, "no value in column 'topic'|two documents"),
    ],
)
def test_parquet_mistakes_are_one_sentence(parquet: Path, change: dict[str, str], message: str) -> None:
    config = {"source": "parquet", "path": str(parquet), "text_column": "body", **change}
    with pytest.raises(UserError, match=message):
        read(**config)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(UserError, match="is not a Parquet file"):
        read(source="parquet", path=str(tmp_path / "x.parquet"), text_column="body")


def write_parquet(path: Path, ids: Sequence[str], texts: Sequence[str | None]) -> dict[str, str]:
    pq.write_table(pa.table({"id": list(ids), "text": list(texts)}), path)
    return {"source": "parquet", "path": str(path), "text_column": "text", "id_column": "id"}


def test_duplicates_and_empty_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    config = write_parquet(tmp_path / "x.parquet", "abcde", ["one", "two", "one", " \n", None])
    corpus = read(**config)
    assert corpus.table["document_id"].to_pylist() == ["a", "b"]
    assert (corpus.n_duplicates, corpus.n_empty) == (1, 2)


def test_two_documents_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two documents of the corpus are named 'a'"):
        read(**write_parquet(tmp_path / "x.parquet", "aba", ["one", "two", "three"]))


def test_a_corpus_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no document with text"):
        read(**write_parquet(tmp_path / "x.parquet", "ab", ["", None]))


def test_text_files_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("second\r\n\n\nthird\n", newline="")
    (tmp_path / "sub" / "a.md").write_text("\ufefffirst", encoding="utf-8")
    (tmp_path / ".hidden").write_text("no")
    corpus = read(source="text", path=str(tmp_path))
    assert corpus.table["document_id"].to_pylist() == ["b.txt", "sub/a.md"]
    assert corpus.table["text"].to_pylist() == ["second\r\n\n\nthird\n", "first"]
    assert dict(corpus.table["labels"][1].as_py()) == {"folder": "sub", "file": "a.md"}
    blocks = read(source="text", path=str(tmp_path / "b.txt"), split_on_blank_lines=True)
    assert blocks.table["text"].to_pylist() == ["second\r\n", "third\n"]
    assert blocks.table["document_id"][1].as_py().endswith("b.txt#1")


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read(source="text", path=str(tmp_path))


def test_hugging_face_dataset_from_a_local_folder(parquet: Path) -> None:
    config = {"source": "huggingface", "dataset": str(parquet.parent), "text_column": "body"}
    corpus = read(**config, id_column="name", max_documents=20)
    assert corpus.table["document_id"].to_pylist() == [f"d{i}" for i in range(20)]
    assert corpus.revision.startswith(str(parquet.parent))
    with pytest.raises(UserError, match="no column 'nope'"):
        read(**{**config, "text_column": "nope"})
    with pytest.raises(UserError, match="cannot be read"):
        read(**config, split="dev")


@pytest.mark.parametrize("given", [{}, {"revision": "0" * 40}, {"max_documents": 5}])
def test_a_dataset_on_the_hub_needs_a_revision_and_a_limit(given: dict[str, object]) -> None:
    common = {"dataset": "owner/name", "text_column": "text"}
    with pytest.raises(ValidationError, match="pin a commit"):
        HuggingFaceCorpus.Config.model_validate({**common, **given})
    HuggingFaceCorpus.Config.model_validate({**common, "revision": "0" * 40, "max_documents": 5})


def test_unknown_sources_and_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"unknown corpus source 'web'; known: .*stdlib"):
        ANY_CORPUS.validate_python({"source": "web"})
    with pytest.raises(ValidationError, match="colour"):
        ANY_CORPUS.validate_python({"source": "stdlib", "colour": "red"})


@given(st.text(st.characters(codec=None), max_size=30))
def test_any_text_becomes_storable_and_stays_what_it_was(text: str) -> None:
    clean = without_surrogates(text)
    clean.encode()
    if not any("\ud800" <= sign <= "\udfff" for sign in text):
        assert clean == text


def test_surrogate_pairs_are_joined_and_lone_halves_replaced() -> None:
    assert without_surrogates("a\ud83d\ude42b\ud83d") == "a🙂b\ufffd"


@given(st.text(max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_the_smaller_eval_split_lies_within_the_larger(name: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not (split_of(name, small) == "eval" and split_of(name, large) == "train")
    assert split_of(name, 0.0) == "train"
    assert split_of(name, 1.0) == "eval"
