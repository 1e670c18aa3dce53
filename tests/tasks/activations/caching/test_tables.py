"""What caching tells the catalogue fits the catalogue's tables."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from catalog.rows import check_unique, conform
from catalog.schemas import TABLES
from tasks.activations.caching import tables
from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.language_model import LanguageModel, ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.packing import PADDING

HOOKPOINT = "blocks.1.resid_post"


@pytest.fixture(scope="module")
def text_corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusTable:
    folder = tmp_path_factory.mktemp("texts")
    for i in range(30):
        (folder / f"{i}.txt").write_text(f"Text {i} 👩‍👩‍👧 says: " + "the ships came in. " * (i + 1))
    config = CORPUS_SOURCES["text"].Config(source="text", path=str(folder), near_duplicates=None)
    return corpus_table(config, 0.2)


@pytest.fixture(scope="module")
def activation_set(
    language_model: Callable[[str], LanguageModel],
    text_corpus: CorpusTable,
    tmp_path_factory: pytest.TempPathFactory,
) -> ActivationSet:
    config = ActivationsConfig(
        hookpoints=(HOOKPOINT,), context_length=32, n_tokens=1_500, eval_share=0.2, packing="per_document"
    )
    scratch: Path = tmp_path_factory.mktemp("scratch")
    return cache_activations(language_model("llama"), text_corpus, config, scratch).open(HOOKPOINT)


def test_rows_fit_their_tables(
    activation_set: ActivationSet,
    text_corpus: CorpusTable,
    language_model: Callable[[str], LanguageModel],
    model_config: Callable[[str], ModelConfig],
) -> None:
    name = tables.corpus_id(text_corpus)
    rows = {
        "models": tables.model_row(language_model("llama").spec, model_config("llama")),
        "corpora": tables.corpus_row(text_corpus),
        "documents": tables.document_rows(text_corpus),
        "activation_sets": tables.activation_set_row(activation_set, "set-1", name, "_blobs/activations/x"),
    }
    for table, content in rows.items():
        fitted = conform(content, TABLES[table])
        check_unique(fitted, TABLES[table].key, table)
    assert rows["corpora"]["n_documents"].to_pylist() == [30]
    assert rows["corpora"]["corpus_id"].to_pylist() == [f"text-{text_corpus.digest[:8]}"]
    assert rows["documents"].num_rows == 30
    assert rows["activation_sets"]["n_valid_tokens"].to_pylist() == [activation_set.n_valid_tokens()]


def test_sequences_hold_every_token_and_lead_back_to_the_text(
    activation_set: ActivationSet, text_corpus: CorpusTable
) -> None:
    names = text_corpus.table["document_id"]
    batches = list(tables.sequence_rows(activation_set, "set-1", names))
    table = conform(pa.Table.from_batches(batches), TABLES["sequences"])
    assert table["sequence_index"].to_pylist() == list(range(activation_set.n_sequences))
    texts = dict(zip(names.to_pylist(), text_corpus.table["text"].to_pylist(), strict=True))
    tokens = activation_set.tokens
    n_pieces = 0
    for row in table.to_pylist():
        index = row["sequence_index"]
        n = int((tokens.segment[index] != PADDING).sum())
        assert row["token_ids"] == np.asarray(tokens.token_ids[index][:n]).tolist()
        lengths = {len(row[name]) for name in ("document_ids", "char_starts", "char_ends", "valid")}
        assert lengths == {n}
        assert row["split"] == tokens.split[index]
        (document,) = set(row["document_ids"])
        covered = "".join(
            texts[document][start:end]
            for (start, end) in sorted(set(zip(row["char_starts"], row["char_ends"], strict=True)))
        )
        assert covered in texts[document]
        n_pieces += 1
    assert n_pieces == activation_set.n_sequences


def test_long_sets_are_told_in_parts(
    activation_set: ActivationSet, text_corpus: CorpusTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = text_corpus.table["document_id"]
    whole = pa.Table.from_batches(list(tables.sequence_rows(activation_set, "s", names)))
    monkeypatch.setattr(tables, "SEQUENCES_PER_BATCH", 7)
    parts = list(tables.sequence_rows(activation_set, "s", names))
    assert len(parts) > 3
    assert pa.Table.from_batches(parts).combine_chunks().equals(whole)
