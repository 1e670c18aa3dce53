"""The inputs of dictionaries: models, texts, and activations of models on texts."""

import pyarrow as pa

from catalog.schemas.spec import BOOL, F64, I32, I64, SET, TEXT, TableSpec, column, optional, table
from catalog.schemas.values import Split

POSITION = pa.struct([("position", I32), ("n", I64)])

ACTIVATIONS: tuple[TableSpec, ...] = (
    table(
        "models",
        "language model revision",
        ("model_id",),
        column("model_id", TEXT, "Name of the model in the catalogue"),
        column("source", TEXT, "embedded, local, huggingface or reinitialised"),
        optional("revision", TEXT, "Pinned revision, or null for a local folder"),
        column("architecture", TEXT, "Model type, for example llama"),
        column("n_layers", I32, "Number of transformer blocks"),
        column("d_model", I32, "Width of the residual stream"),
        column("vocab_size", I32, "Number of tokens in the vocabulary"),
        optional("max_context", I32, "Longest context of the model, in tokens"),
        column("n_parameters", I64, "Number of parameters"),
        column("tokenizer_digest", TEXT, "SHA-256 of the tokenizer"),
        column("weights_digest", TEXT, "SHA-256 of the weights"),
        optional("parent_model_id", TEXT, "Model from which this one was tuned or made"),
        optional(
            "location",
            TEXT,
            "Repository of the hub (owner/name) or folder it was read from; null for embedded ones",
            since=2,
        ),
        optional("seed", I64, "Seed of the weights of a reinitialised model", since=2),
        optional("adapter_digest", TEXT, "SHA-256 of the LoRA adapter merged into the weights", since=2),
        optional("quantisation", TEXT, "Number format, granularity and library of rounded weights", since=2),
        optional(
            "quantisation_error", F64, "Squared error of the rounding over the squared weights", since=2
        ),
        optional("series_id", TEXT, "Training that this model is a checkpoint of", since=2),
        optional("series_step", I64, "Optimiser steps done at this checkpoint", since=2),
        version=2,
        partition_by=(),
    ),
    table(
        "corpora",
        "corpus",
        ("corpus_id",),
        column("corpus_id", TEXT, "Name of the corpus plus eight hex of its digest"),
        column("source", TEXT, "Kind of source: stdlib, parquet, text, huggingface"),
        optional("revision", TEXT, "Revision of the source, for example the Python version"),
        column("digest", TEXT, "SHA-256 over document ids and texts"),
        column("n_documents", I64, "Documents kept"),
        column("n_eval_documents", I64, "Documents of the eval split"),
        column("n_chars", I64, "Characters in all documents"),
        column("n_duplicates", I64, "Exact duplicates left out"),
        optional(
            "n_near_duplicates", I64, "Documents left out because they resemble an earlier one", since=2
        ),
        optional("chat_template", TEXT, "SHA-256 of the template that rendered the conversations", since=2),
        version=2,
        partition_by=(),
    ),
    table(
        "documents",
        "document",
        ("corpus_id", "document_id"),
        column("corpus_id", TEXT, "Corpus the document belongs to"),
        column("document_id", TEXT, "Document within its corpus"),
        column("split", TEXT, "Whether dictionaries may train on it", Split),
        column("n_chars", I64, "Length in characters"),
        column("text", TEXT, "The full text"),
        column("labels", pa.map_(TEXT, TEXT), "Label columns of the source, as text"),
        row_group_rows=500,
    ),
    table(
        "activation_sets",
        "cached activations of one hookpoint",
        ("activation_set_id",),
        SET,
        column("model_id", TEXT, "Model that ran"),
        column("corpus_id", TEXT, "Corpus that the model read"),
        column("hookpoint", TEXT, "Where the activations were read, for example blocks.2.resid_post"),
        column("d_in", I32, "Width of one activation"),
        column("n_sequences", I64, "Packed sequences"),
        column("n_tokens", I64, "Tokens that the model processed"),
        column("n_valid_tokens", I64, "Tokens that training, metrics and mining use"),
        column("context_length", I32, "Tokens in a packed sequence"),
        column("packing", TEXT, "block or per_document"),
        column("bos", TEXT, "none, keep or drop: treatment of the BOS token at the start of a document"),
        column("dtype", TEXT, "Number format of the shards"),
        column("norm", F64, "Mean Euclidean norm over valid train tokens"),
        column("n_nonfinite", I64, "Tokens dropped for NaN or infinite activations"),
        column("uri", TEXT, "Folder of the shards, relative to the catalogue"),
        column("digest", TEXT, "SHA-256 over the shards"),
        column("n_bytes", I64, "Size of the shards in bytes"),
        optional("median_norm", F64, "Median Euclidean norm over valid tokens", since=2),
        optional(
            "n_massive",
            I64,
            "Tokens whose norm is over 5, or sink_norm_multiple, times the median",
            since=2,
        ),
        optional("massive_share", F64, "Share of the sum of squared norms that these tokens hold", since=2),
        optional("max_norm", F64, "Largest norm of these tokens; null if there are none", since=2),
        optional(
            "massive_positions",
            pa.list_(POSITION),
            "Number of these tokens by position in a chunk of a document, from 0, most common first",
            since=2,
        ),
        optional("massive_tokens", TEXT, "keep or drop: whether these tokens count as valid", since=2),
        optional(
            "sink_norm_multiple",
            F64,
            "Multiple of the median norm above which tokens are left out of training, metrics and mining; "
            "null if none are",
            since=2,
        ),
        optional(
            "masked_share", F64, "Share of the tokens left out for their norm; null if all stay", since=2
        ),
        version=2,
        partition_by=(),
    ),
    table(
        "sequences",
        "packed token sequence that the model processed",
        ("activation_set_id", "sequence_index"),
        SET,
        column("sequence_index", I32, "Position of the sequence in the set"),
        column("split", TEXT, "Split of all its documents", Split),
        column("token_ids", pa.list_(I32), "Token ids without padding"),
        column("document_ids", pa.list_(TEXT), "Document of each token"),
        column("char_starts", pa.list_(I32), "First character of each token in the document"),
        column("char_ends", pa.list_(I32), "Character after the last of each token in the document"),
        column("valid", pa.list_(BOOL), "Whether training, metrics and mining use each token"),
        row_group_rows=500,
    ),
)
