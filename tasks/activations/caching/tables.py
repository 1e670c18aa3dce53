"""The rows that caching writes to the catalogue: models, corpora, documents, activation_sets, sequences.

All of them without the columns that the store adds (fingerprint, slice, subject).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.schemas import COMMON_COLUMNS, TABLES
from tasks.activations.corpora import CorpusTable
from tasks.activations.models.derived import QuantisationError, derivation
from tasks.activations.models.language_model import ModelSpec
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.packing import PADDING

SEQUENCES_PER_BATCH = 500
N_HEX = 8


def corpus_id(corpus: CorpusTable) -> str:
    """Kind of source plus eight hex digits of the digest of documents and texts."""
    return corpus_name(corpus.source, corpus.digest)


def corpus_name(source: str, digest: str) -> str:
    """The id of a corpus of this kind of source, whose documents have this digest."""
    return f"{source}-{digest[:N_HEX]}"


def model_row(
    spec: ModelSpec, config: ModelConfig, quantisation: QuantisationError | None = None
) -> pa.Table:
    """One row of ``models``; ``quantisation`` is what rounding the weights cost, where that is done."""
    adapter = derivation(config).get("adapter", {})
    return _row(
        "models",
        model_id=spec.model_id,
        source=spec.source,
        revision=spec.revision,
        architecture=spec.architecture,
        n_layers=spec.n_layers,
        d_model=spec.d_model,
        vocab_size=spec.vocab_size,
        max_context=spec.max_context,
        n_parameters=spec.n_parameters,
        tokenizer_digest=spec.tokenizer_digest,
        weights_digest=spec.weights_digest,
        parent_model_id=config.parent_id,
        location=config.path,
        seed=config.seed,
        adapter_digest=adapter.get("digest"),
        quantisation=quantisation.scheme if quantisation is not None else None,
        quantisation_error=quantisation.error if quantisation is not None else None,
        series_id=config.training.id if config.training is not None else None,
        series_step=config.training.step if config.training is not None else None,
    )


def corpus_row(corpus: CorpusTable, parent_id: str | None = None) -> pa.Table:
    """One row of ``corpora``; ``parent_id`` is the corpus before its newest documents came."""
    splits = corpus.table["split"].to_pylist()
    return _row(
        "corpora",
        corpus_id=corpus_id(corpus),
        source=corpus.source,
        revision=corpus.revision,
        digest=corpus.digest,
        n_documents=corpus.table.num_rows,
        n_eval_documents=splits.count("eval"),
        n_chars=sum(corpus.table["n_chars"].to_pylist()),
        n_duplicates=corpus.n_duplicates,
        n_near_duplicates=corpus.n_near_duplicates,
        chat_template=corpus.chat_template,
        n_generations=len(corpus.generations) or None,
        parent_corpus_id=parent_id,
    )


def document_rows(corpus: CorpusTable) -> pa.Table:
    """The rows of ``documents``."""
    schema = _schema("documents")
    table = corpus.table.append_column("corpus_id", _repeated(corpus_id(corpus), corpus.table))
    if not corpus.generations:
        table = table.append_column("generation", _repeated(None, table))
    return table.select(schema.names).cast(schema)


def activation_set_row(
    activation_set: ActivationSet, activation_set_id: str, corpus_id: str, uri: str
) -> pa.Table:
    """One row of ``activation_sets``; ``uri`` is the path of the folder below the catalogue's root."""
    meta = activation_set.meta
    copied = (
        "model_id",
        "hookpoint",
        "d_in",
        "n_sequences",
        "n_tokens",
        "n_valid_tokens",
        "context_length",
        "dtype",
        "norm",
        "n_nonfinite",
        "digest",
        "n_bytes",
        "median_norm",
        "n_massive",
        "massive_share",
        "max_norm",
        "massive_positions",
    )
    return _row(
        "activation_sets",
        activation_set_id=activation_set_id,
        corpus_id=corpus_id,
        uri=uri,
        packing=meta["config"]["packing"],
        bos=meta["config"]["bos"],
        massive_tokens="drop" if meta.get("sink_norm_multiple") else meta["config"]["massive_tokens"],
        sink_norm_multiple=meta.get("sink_norm_multiple"),
        masked_share=meta.get("masked_share"),
        **{name: meta[name] for name in copied},
    )


def sequence_rows(
    activation_set: ActivationSet, activation_set_id: str, document_ids: pa.ChunkedArray | pa.Array
) -> Iterator[pa.RecordBatch]:
    """The rows of ``sequences``, some hundred at a time; ``document_ids`` is the corpus' column."""
    tokens = activation_set.tokens
    names = pa.array(document_ids.to_pylist(), pa.string())
    schema = _schema("sequences")
    for start in range(0, tokens.n_sequences, SEQUENCES_PER_BATCH):
        rows = slice(start, min(start + SEQUENCES_PER_BATCH, tokens.n_sequences))
        is_token = tokens.segment[rows] != PADDING
        ends = np.concatenate([[0], np.cumsum(is_token.sum(axis=1))]).astype(np.int32)

        def lists(values: pa.Array, ends: Any = ends) -> pa.ListArray:
            return pa.ListArray.from_arrays(pa.array(ends), values)

        columns = {
            "activation_set_id": pa.repeat(pa.scalar(activation_set_id), rows.stop - rows.start),
            "sequence_index": pa.array(np.arange(rows.start, rows.stop), pa.int32()),
            "split": pa.array(tokens.split[rows].tolist(), pa.string()),
            "token_ids": lists(pa.array(tokens.token_ids[rows][is_token])),
            "document_ids": lists(names.take(pa.array(tokens.document_index[rows][is_token]))),
            "char_starts": lists(pa.array(tokens.char_start[rows][is_token])),
            "char_ends": lists(pa.array(tokens.char_end[rows][is_token])),
            "valid": lists(pa.array(np.asarray(tokens.valid[rows])[is_token])),
        }
        yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _repeated(value: str | None, table: pa.Table) -> pa.Array:
    return pa.array([value], pa.string()).take(pa.array(np.zeros(table.num_rows, dtype=np.int64)))


def _schema(table: str) -> pa.Schema:
    """Schema of a table without the columns that the store adds."""
    spec = TABLES[table]
    return pa.schema([spec.schema.field(c.name) for c in spec.columns if c.name not in COMMON_COLUMNS])


def _row(table: str, **values: Any) -> pa.Table:
    return pa.Table.from_pylist([values], schema=_schema(table))
