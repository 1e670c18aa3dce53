"""What every corpus source of the registry has to satisfy; a new one is tested without an edit here."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from catalog.errors import UserError
from tasks.activations.corpora import CORPUS_SOURCES, CorpusConfig, corpus_table
from tasks.activations.corpora.columns import ColumnsConfig
from tasks.activations.corpora.table import CORPUS_SCHEMA

ANY_CORPUS: TypeAdapter[Any] = TypeAdapter(CorpusConfig)
EVERY = pytest.mark.parametrize("source", CORPUS_SOURCES.names())
PLACES = ("path", "dataset")
"""Fields that name a folder of the user."""
FROM_FILES = [name for name in CORPUS_SOURCES if set(PLACES) & set(CORPUS_SOURCES[name].Config.model_fields)]
WORDS = ("the harbour at night", "a list of prices", "rain over the hills", "how to fold a map")


def config_of(source: str, folder: Path, **changes: Any) -> Any:
    """The configuration of a source: one that reads files reads those of ``folder``, which are written."""
    kind = CORPUS_SOURCES[source].Config
    fields: dict[str, Any] = dict.fromkeys(set(PLACES) & set(kind.model_fields), str(folder))
    if issubclass(kind, ColumnsConfig):
        fields |= {"text_column": "text", "id_column": "name", "label_columns": ["topic"]}
    if fields:
        write_texts(folder, rows=issubclass(kind, ColumnsConfig))
    return ANY_CORPUS.validate_python({"source": source, **fields, **changes})


def write_texts(folder: Path, *, rows: bool, texts: tuple[str, ...] = WORDS) -> None:
    folder.mkdir(exist_ok=True)
    if rows:
        table = {"name": [f"d{n}" for n in range(len(texts))], "text": texts, "topic": ["a"] * len(texts)}
        pq.write_table(pa.table(table), folder / "texts.parquet")
        return
    for number, text in enumerate(texts):
        (folder / f"d{number}.txt").write_text(text)


@EVERY
def test_documents_are_the_same_at_every_reading(source: str, tmp_path: Path) -> None:
    reader = CORPUS_SOURCES[source](config_of(source, tmp_path))
    documents = list(reader.documents())
    assert documents == list(reader.documents())
    assert len({document.document_id for document in documents}) == len(documents) > 1
    for document in documents:
        assert document.document_id
        assert document.text
        assert all(isinstance(value, str | None) for value in document.labels.values())
    splits = [reader.split_of(document.document_id, 0.5) for document in documents]
    assert set(splits) <= {"train", "eval"}


@EVERY
def test_a_source_becomes_the_table_that_every_stage_reads(source: str, tmp_path: Path) -> None:
    config = config_of(source, tmp_path)
    corpus = corpus_table(config, 0.25)
    assert corpus.table.schema == CORPUS_SCHEMA
    described = CORPUS_SOURCES[source](config).describe()
    assert described["source"] == source
    assert described["revision"]


@EVERY
def test_a_configuration_survives_a_round_trip(source: str, tmp_path: Path) -> None:
    config = config_of(source, tmp_path)
    assert ANY_CORPUS.validate_python(ANY_CORPUS.dump_python(config, mode="json")) == config
    with pytest.raises(ValidationError, match="unknown field 'colour'"):
        config_of(source, tmp_path, colour="red")


@pytest.mark.parametrize("source", FROM_FILES)
def test_a_changed_file_is_another_revision(source: str, tmp_path: Path) -> None:
    """The revision is in the fingerprint of the stage: what it does not tell apart is not read again."""
    config = config_of(source, tmp_path)
    before = CORPUS_SOURCES[source](config).describe()
    assert CORPUS_SOURCES[source](config).describe() == before
    write_texts(tmp_path, rows=isinstance(config, ColumnsConfig), texts=(*WORDS[:-1], "another text"))
    assert CORPUS_SOURCES[source](config).describe() != before


@pytest.mark.parametrize("source", FROM_FILES)
def test_a_folder_without_texts_is_one_sentence(source: str, tmp_path: Path) -> None:
    config = config_of(source, tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(UserError) as refused:
        corpus_table(config, 0.25)
    assert "\n" not in str(refused.value)
    assert tmp_path.name in str(refused.value)
