"""Every table of the catalogue: columns with types and meaning, key, partitions, order.

The data dictionary in ``catalog/README.md`` is generated from this file. A changed column needs a new
``version`` of its table and an entry in the CHANGELOG. All timestamps are UTC; every row carries the
``fingerprint`` of the stage run that made it.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import pyarrow as pa

FEATURES_PER_BLOCK = 1_000

RunState = Literal["running", "completed", "failed", "crashed"]
StageState = Literal["committed", "failed"]
Split = Literal["train", "eval"]
FeatureStatus = Literal["alive", "unseen", "dense"]
ExampleSplit = Literal["explain", "score"]
ExplanationStatus = Literal["ok", "invalid", "refused", "truncated", "filtered", "error"]
CallOutcome = Literal["ok", "invalid", "refused", "truncated", "filtered", "error"]
Origin = Literal["trained", "imported", "baseline"]
Verdict = Literal["same", "split", "merged", "absorbed", "unmatched"]
ConceptEvent = Literal["born", "kept", "split", "merged", "died"]
Negatives = Literal["random", "neighbour", "mixed"]

_TEXT, _BOOL = pa.string(), pa.bool_()
_I32, _I64, _F32, _F64 = pa.int32(), pa.int64(), pa.float32(), pa.float64()
_TIME = pa.timestamp("us", tz="UTC")
_JSON = pa.string()

HOOK = pa.struct([("model_id", _TEXT), ("hookpoint", _TEXT)])
LOGIT = pa.struct([("token_id", _I32), ("token", _TEXT), ("logit", _F32)])
NEIGHBOUR = pa.struct([("feature_index", _I32), ("score", _F32)])
BIN = pa.struct([("low", _F32), ("high", _F32), ("n", _I64)])
QUANTILE = pa.struct([("q", _F32), ("value", _F32)])


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, Arrow type, meaning; ``values`` lists the strings an enumeration allows.

    ``since`` is the version of the table that brought the column; older files read it as null.
    """

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False
    values: tuple[str, ...] = ()
    since: int = 1


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table: its rows, columns, unique key, Hive partitions, sort order and layout.

    Rows are committed in slices, one per fingerprint. A slice of a replaceable table takes the place
    of every earlier row of its ``subject`` (what the rows are about); a slice of an append-only table is
    added once and never replaced. Partitioned tables have files of their own per subject, the others are
    small and their slices share files. Partition columns are in the files as well.
    """

    name: str
    row: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sort_by: tuple[str, ...]
    partition_by: tuple[str, ...]
    append_only: bool = False
    row_group_rows: int = 65_536
    version: int = 1

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a data file, column descriptions in the field metadata."""
        return _arrow_schema(self)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            KeyError: when there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")


@cache
def _arrow_schema(spec: TableSpec) -> pa.Schema:
    fields = [pa.field(c.name, c.type, c.nullable, {"description": c.description}) for c in spec.columns]
    return pa.schema(fields, {"featlas.table": spec.name, "featlas.version": str(spec.version)})


def _c(name: str, type_: pa.DataType, description: str, values: object = None) -> Column:
    allowed = tuple(get_args(values)) if values is not None else ()
    return Column(name, type_, description, False, allowed)


def _n(name: str, type_: pa.DataType, description: str, values: object = None, since: int = 1) -> Column:
    allowed = tuple(get_args(values)) if values is not None else ()
    return Column(name, type_, description, True, allowed, since)


_COMMON = (
    _c("fingerprint", _TEXT, "Digest of the stage, config and parents that made this row"),
    _c("slice", _TEXT, "Slug of the committed file set the row came with"),
    _c("subject", _TEXT, "Slug of what the slice is about and replaces as a whole"),
)
COMMON_COLUMNS = tuple(column.name for column in _COMMON)
_DICTIONARY = _c("dictionary_id", _TEXT, "Dictionary: alias plus eight hex of its fingerprint")
_SET = _c("activation_set_id", _TEXT, "Activation set the observation was made on")
_FEATURE = _c("feature_index", _I32, "Unit of the dictionary, counted from 0")


def _table(
    name: str,
    row: str,
    key: tuple[str, ...],
    *columns: Column,
    sort_by: tuple[str, ...] | None = None,
    partition_by: tuple[str, ...] | None = None,
    append_only: bool = False,
    row_group_rows: int = 65_536,
    version: int = 1,
) -> TableSpec:
    return TableSpec(
        name,
        row,
        (*columns, *_COMMON),
        key,
        sort_by or key,
        (() if append_only else ("subject",)) if partition_by is None else partition_by,
        append_only,
        row_group_rows,
        version,
    )


_TABLES = (
    _table(
        "runs",
        "flow run",
        ("run_id",),
        _c("run_id", _TEXT, "Identifier of the run; the Prefect flow run id where there is one"),
        _n("pipeline", _TEXT, "Name of the pipeline file"),
        _c("flow", _TEXT, "Name of the flow, for example nightly"),
        _n("deployment", _TEXT, "Deployment the run was started from"),
        _n("prefect_flow_run_id", _TEXT, "Flow run id in Prefect"),
        _c("state", _TEXT, "How the run stands", RunState),
        _c("started_at", _TIME, "When the run began"),
        _n("finished_at", _TIME, "When the run ended"),
        _c("code_version", _TEXT, "Version of featlas, with the commit where known"),
        _c("config_digest", _TEXT, "Digest of the whole pipeline configuration"),
        _n("error", _TEXT, "Why the run failed, in one sentence"),
        _n("summary", _JSON, "JSON: per stage fingerprint, recomputed or found, rows, seconds"),
        partition_by=(),
    ),
    _table(
        "stage_runs",
        "stage attempt",
        ("fingerprint", "attempt"),
        _c("attempt", _I32, "Attempt, counted from 1; the fencing token of the lease"),
        _c("stage", _TEXT, "Stage, for example train_dictionary"),
        _c("stage_version", _I32, "Version of the stage's definition"),
        _c("label", _TEXT, "What the unit is about, readable"),
        _n("run_id", _TEXT, "Run that made the attempt"),
        _c("state", _TEXT, "How the attempt ended", StageState),
        _c("lease_token", _I64, "Fencing token that was checked at the commit"),
        _c("parents", pa.list_(_TEXT), "Fingerprints of the stages this one read"),
        _c("config", _JSON, "Canonical JSON of the stage's configuration"),
        _c("rows", _I64, "Rows committed, all tables"),
        _c("bytes", _I64, "Bytes committed, all tables"),
        _c("seconds", _F64, "Wall time of the attempt in seconds"),
        _c("started_at", _TIME, "When the attempt began"),
        _c("finished_at", _TIME, "When it was committed or failed"),
        _c("facts", _JSON, "JSON: small results that later stages refer to"),
        _c("code_version", _TEXT, "Version of featlas, with the commit where known"),
        _n("error", _TEXT, "Why the attempt failed"),
        append_only=True,
    ),
    _table(
        "slices",
        "committed file set",
        ("table_name", "slice"),
        _c("table_name", _TEXT, "Table the files belong to"),
        _c("files", pa.list_(_TEXT), "Data files, relative to the catalogue"),
        _c("file_rows", pa.list_(_I64), "Rows of each file"),
        _c("file_bytes", pa.list_(_I64), "Size of each file in bytes"),
        _c("sha256", pa.list_(_TEXT), "SHA-256 of each file"),
        _c("rows", _I64, "Rows in all files"),
        _c("bytes", _I64, "Bytes in all files"),
        _c("schema_version", _I32, "Version of the table's schema when written"),
        _c("committed_at", _TIME, "When it was committed"),
        partition_by=(),
    ),
    _table(
        "models",
        "language model revision",
        ("model_id",),
        _c("model_id", _TEXT, "Name of the model in the catalogue"),
        _c("source", _TEXT, "embedded, local or huggingface"),
        _n("revision", _TEXT, "Pinned revision, or null for a local folder"),
        _c("architecture", _TEXT, "Model type, for example llama"),
        _c("n_layers", _I32, "Number of transformer blocks"),
        _c("d_model", _I32, "Width of the residual stream"),
        _c("vocab_size", _I32, "Number of tokens in the vocabulary"),
        _n("max_context", _I32, "Longest context the model takes, in tokens"),
        _c("n_parameters", _I64, "Number of parameters"),
        _c("tokenizer_digest", _TEXT, "SHA-256 of the tokenizer"),
        _c("weights_digest", _TEXT, "SHA-256 of the weights"),
        _n("parent_model_id", _TEXT, "Model this one was tuned from"),
        partition_by=(),
    ),
    _table(
        "corpora",
        "corpus",
        ("corpus_id",),
        _c("corpus_id", _TEXT, "Name of the corpus plus eight hex of its digest"),
        _c("source", _TEXT, "Kind of source: stdlib, parquet, text, huggingface"),
        _n("revision", _TEXT, "Revision of the source, for example the Python version"),
        _c("digest", _TEXT, "SHA-256 over document ids and texts"),
        _c("n_documents", _I64, "Documents kept"),
        _c("n_eval_documents", _I64, "Documents of the eval split"),
        _c("n_chars", _I64, "Characters in all documents"),
        _c("n_duplicates", _I64, "Exact duplicates left out"),
        _n("n_near_duplicates", _I64, "Documents left out because an earlier one is much like them", since=2),
        _n("chat_template", _TEXT, "SHA-256 of the template that conversations were rendered with", since=2),
        version=2,
        partition_by=(),
    ),
    _table(
        "documents",
        "document",
        ("corpus_id", "document_id"),
        _c("corpus_id", _TEXT, "Corpus the document belongs to"),
        _c("document_id", _TEXT, "Document within its corpus"),
        _c("split", _TEXT, "Whether dictionaries may train on it", Split),
        _c("n_chars", _I64, "Length in characters"),
        _c("text", _TEXT, "The whole text"),
        _c("labels", pa.map_(_TEXT, _TEXT), "Label columns of the source, as text"),
        row_group_rows=500,
    ),
    _table(
        "activation_sets",
        "cached activations of one hookpoint",
        ("activation_set_id",),
        _SET,
        _c("model_id", _TEXT, "Model that was run"),
        _c("corpus_id", _TEXT, "Corpus that was read"),
        _c("hookpoint", _TEXT, "Where the activations were taken, for example blocks.2.resid_post"),
        _c("d_in", _I32, "Width of one activation"),
        _c("n_sequences", _I64, "Packed sequences"),
        _c("n_tokens", _I64, "Tokens run through the model"),
        _c("n_valid_tokens", _I64, "Tokens that training, metrics and mining use"),
        _c("context_length", _I32, "Tokens in a packed sequence"),
        _c("packing", _TEXT, "block or per_document"),
        _c("bos", _TEXT, "none, keep or drop: what happens at the beginning of a document"),
        _c("dtype", _TEXT, "Number format of the shards"),
        _c("norm", _F64, "Mean Euclidean norm over valid train tokens"),
        _c("n_nonfinite", _I64, "Tokens dropped for NaN or infinite activations"),
        _c("uri", _TEXT, "Folder of the shards, relative to the catalogue"),
        _c("digest", _TEXT, "SHA-256 over the shards"),
        _c("n_bytes", _I64, "Size of the shards in bytes"),
        partition_by=(),
    ),
    _table(
        "sequences",
        "packed token sequence that was run through the model",
        ("activation_set_id", "sequence_index"),
        _SET,
        _c("sequence_index", _I32, "Position of the sequence in the set"),
        _c("split", _TEXT, "Split of all its documents", Split),
        _c("token_ids", pa.list_(_I32), "Token ids, padding left out"),
        _c("document_ids", pa.list_(_TEXT), "For each token its document"),
        _c("char_starts", pa.list_(_I32), "For each token its first character in the document"),
        _c("char_ends", pa.list_(_I32), "For each token the character after its last"),
        _c("valid", pa.list_(_BOOL), "For each token whether training, metrics and mining use it"),
        row_group_rows=500,
    ),
    _table(
        "dictionaries",
        "trained or imported dictionary",
        ("dictionary_id",),
        _DICTIONARY,
        _c("alias", _TEXT, "Readable part of the id"),
        _c("reads", pa.list_(HOOK), "Where its inputs come from"),
        _c("writes", pa.list_(HOOK), "What it reconstructs"),
        _c("unit_type", _TEXT, "What a unit is: latent, neuron, factor, direction"),
        _c("architecture", _TEXT, "Method, for example topk"),
        _c("d_in", _I32, "Width of the input"),
        _c("d_sae", _I32, "Number of units"),
        _c("config", _JSON, "JSON: full training configuration"),
        _c("weights_uri", _TEXT, "Folder with cfg.json and sae_weights.safetensors, relative"),
        _c("weights_digest", _TEXT, "SHA-256 of the weights file"),
        _c("activation_set_id", _TEXT, "Activation set it was trained on"),
        _c("origin", _TEXT, "trained, imported or baseline", Origin),
        _c("verified", _BOOL, "Whether weights were checked against activations after saving"),
        _c("created_at", _TIME, "When it was committed"),
        partition_by=(),
    ),
    _table(
        "dictionary_metrics",
        "metric value",
        ("dictionary_id", "activation_set_id", "metric", "variant", "split"),
        _DICTIONARY,
        _SET,
        _c("metric", _TEXT, "Metric, for example fvu"),
        _c("variant", _TEXT, "Which form, for example mean_ablation; empty where there is one"),
        _c("split", _TEXT, "Documents it was measured on", Split),
        _n("value", _F64, "The value, or null with the reason in note"),
        _c("n", _I64, "Tokens it was measured on"),
        _c("metric_version", _I32, "Version of the definition"),
        _n("control", _JSON, "JSON: the same metric of the controls (pca, random) at the same k"),
        _n("note", _TEXT, "Why a value is null, or how it was measured"),
        partition_by=(),
    ),
    _table(
        "training_log",
        "logged step",
        ("dictionary_id", "step", "metric"),
        _DICTIONARY,
        _c("step", _I64, "Optimiser step, counted from 1"),
        _c("n_tokens", _I64, "Tokens seen up to this step"),
        _c("metric", _TEXT, "loss, fvu, l0, aux_loss, lr, unseen_share, ..."),
        _c("value", _F64, "Its value at the step"),
    ),
    _table(
        "features",
        "feature on an activation set",
        ("dictionary_id", "activation_set_id", "feature_index"),
        _DICTIONARY,
        _SET,
        _FEATURE,
        _c(
            "status",
            _TEXT,
            "alive, unseen (never fired here) or dense (density > 0.1)",
            FeatureStatus,
        ),
        _c("n_tokens", _I64, "Tokens it fired on"),
        _c("density", _F64, "Share of valid tokens it fired on"),
        _n("max_activation", _F32, "Largest activation; null if it never fired"),
        _n("mean_activation", _F32, "Mean activation where it fired; null if it never fired"),
        _c("quantiles", pa.list_(QUANTILE), "Quantiles of the activations where it fired"),
        _c("histogram", pa.list_(BIN), "Histogram of the activations where it fired"),
        _c("decoder_norm", _F32, "Euclidean norm of its decoder row"),
        _n("encoder_decoder_cosine", _F32, "Cosine of encoder column and decoder row"),
        _c("top_logits", pa.list_(LOGIT), "Tokens it raises most through the unembedding"),
        _c("bottom_logits", pa.list_(LOGIT), "Tokens it lowers most through the unembedding"),
        _c("nearest_by_decoder", pa.list_(NEIGHBOUR), "Nearest features by decoder cosine"),
        _c("nearest_by_coactivation", pa.list_(NEIGHBOUR), "Nearest features by Jaccard of firing"),
        _c(
            "top_tokens",
            pa.list_(_TEXT),
            "Commonest texts of its peak tokens among the top examples",
        ),
        _n("feature_group", _I32, "Matryoshka prefix or frequency stratum it belongs to, from 0", since=2),
        _n("parent_feature", _I32, "Feature of an earlier group that fires with it most often", since=2),
        _n("selection_step", _F64, "Mean step at which matching pursuit selects it, from 0", since=2),
        _n("threshold", _F32, "Activation it must exceed, where the architecture has thresholds", since=2),
        _n("special_share", _F64, "Share of its activation mass on special and template tokens", since=2),
        _n("head_shares", pa.list_(_F64), "Share of each attention head in its decoder norm", since=2),
        _n("dfa_offset", _I32, "Offset of the token that attention reads it from most, 0: its own", since=2),
        _n("dfa_entropy", _F64, "Mean entropy in nats of the tokens that attention reads it from", since=2),
        _n("site_norms", pa.list_(_F64), "Decoder norm at each hookpoint it writes", since=2),
        _n("relative_norm", _F64, "Norm at the last of those over the sum: 0.5 is shared", since=2),
        _n("error_ratio", _F64, "Latent scaling of the reconstruction errors, first over last", since=2),
        _n("reconstruction_ratio", _F64, "Latent scaling of the reconstructions, first over last", since=2),
        version=2,
        row_group_rows=2_000,
    ),
    _table(
        "examples",
        "mined context",
        ("dictionary_id", "activation_set_id", "feature_index", "band", "rank"),
        _DICTIONARY,
        _SET,
        _FEATURE,
        _c("dictionary_slug", _TEXT, "Slug of the dictionary, a partition"),
        _c("feature_block", _I32, "feature_index // 1000, a partition"),
        _c(
            "band",
            _TEXT,
            "top, q1 (strongest) to q5 (weakest) by activation, or the controls random and "
            "neighbour, which do not fire",
        ),
        _c("rank", _I32, "Order within the band, counted from 0"),
        _c("sequence_index", _I32, "Packed sequence it was cut from"),
        _c("token_start", _I32, "Position of its first token in the sequence"),
        _c("document_id", _TEXT, "Document of the text"),
        _c("char_start", _I32, "First character in the document"),
        _c("char_end", _I32, "Character after the last in the document"),
        _c("token_ids", pa.list_(_I32), "Token ids"),
        _c(
            "tokens",
            pa.list_(_TEXT),
            "Text of each token cut from the document; empty for the further tokens of one "
            "character; joined they are the text from char_start to char_end",
        ),
        _c("activations", pa.list_(_F32), "Activation of the feature on each token"),
        _c("peak_position", _I32, "Position of the largest activation within the context"),
        _c("max_activation", _F32, "Largest activation within the context; 0 for controls"),
        _c("split", _TEXT, "Whether it may be used to explain or to score", ExampleSplit),
        sort_by=("feature_index", "band", "rank"),
        partition_by=("dictionary_slug", "subject", "feature_block"),
        row_group_rows=2_000,
    ),
    _table(
        "explanations",
        "explanation attempt, append-only",
        ("explanation_id",),
        _c("explanation_id", _TEXT, "Deterministic digest of feature, evidence and explainer"),
        _DICTIONARY,
        _SET,
        _FEATURE,
        _c("explainer", _TEXT, "Explainer, for example lexical"),
        _n("model", _TEXT, "LLM that wrote it; null for lexical"),
        _c("prompt_digest", _TEXT, "SHA-256 of prompt template, schema and settings"),
        _n("text", _TEXT, "The explanation; null unless status is ok"),
        _n("predicate", _JSON, "JSON: the rule a lexical explanation is scored by"),
        _c("status", _TEXT, "How the attempt ended", ExplanationStatus),
        _n("error", _TEXT, "Why there is no text"),
        _n("call_id", _TEXT, "LLM call that answered"),
        _c("created_at", _TIME, "When it was written"),
        sort_by=("dictionary_id", "activation_set_id", "feature_index", "explanation_id"),
        append_only=True,
        row_group_rows=20_000,
    ),
    _table(
        "scores",
        "scored explanation, append-only",
        ("explanation_id", "scorer", "judge", "metric", "variant", "seed"),
        _c("explanation_id", _TEXT, "Explanation that was scored"),
        _DICTIONARY,
        _SET,
        _FEATURE,
        _c("scorer", _TEXT, "detection, fuzzing or predicate"),
        _c("judge", _TEXT, "LLM that judged; none without one"),
        _c("metric", _TEXT, "balanced_accuracy, precision, recall, ..."),
        _c("variant", _TEXT, "Which negatives: random, neighbour or mixed"),
        _c("seed", _I32, "Seed of sampling and order"),
        _n("value", _F64, "The score; null if nothing was answered"),
        _n("ci_low", _F64, "Lower end of the 95 % interval"),
        _n("ci_high", _F64, "Upper end of the 95 % interval"),
        _n("chance", _F64, "The same score of shuffled explanations on the same items"),
        _c("n", _I32, "Judged items"),
        _c("answered_share", _F64, "Share of items with a valid answer"),
        _c("negatives", _TEXT, "What the negatives are", Negatives),
        _c("created_at", _TIME, "When it was scored"),
        sort_by=(
            "dictionary_id",
            "activation_set_id",
            "feature_index",
            "explanation_id",
            "scorer",
            "variant",
        ),
        append_only=True,
        row_group_rows=20_000,
    ),
    _table(
        "judgements",
        "judged item",
        ("explanation_id", "scorer", "judge", "seed", "item"),
        _c("explanation_id", _TEXT, "Explanation that was scored"),
        _c("scorer", _TEXT, "detection, fuzzing or predicate"),
        _c("judge", _TEXT, "LLM that judged; none without one"),
        _c("seed", _I32, "Seed of sampling and order"),
        _c("item", _I32, "Item, in the order shown"),
        _DICTIONARY,
        _SET,
        _FEATURE,
        _c("band", _TEXT, "Band of the example"),
        _c("rank", _I32, "Rank of the example within its band"),
        _c("truth", _BOOL, "Whether the feature fires on it (fuzzing: whether rightly marked)"),
        _n("answer", _BOOL, "What the judge said; null if unanswered"),
        _n("probability", _F32, "Probability of yes where the judge gives one"),
        _n("call_id", _TEXT, "LLM call that answered"),
        sort_by=("dictionary_id", "activation_set_id", "feature_index", "explanation_id", "scorer", "item"),
        append_only=True,
    ),
    _table(
        "llm_calls",
        "LLM request",
        ("call_id",),
        _c("call_id", _TEXT, "Deterministic digest of request and attempt group"),
        _n("run_id", _TEXT, "Run that paid for it"),
        _c("purpose", _TEXT, "explain, detection, fuzzing or probe"),
        _c("endpoint", _TEXT, "Name of the endpoint profile"),
        _c("model", _TEXT, "Model as the endpoint calls it"),
        _c("prompt_digest", _TEXT, "SHA-256 of model, messages, schema and settings"),
        _n("prompt_tokens", _I32, "Tokens sent, as the endpoint counts"),
        _n("completion_tokens", _I32, "Tokens received, as the endpoint counts"),
        _c("cost_usd", _F64, "Cost by the profile's prices"),
        _c("latency_ms", _F64, "Wall time of the call, retries included"),
        _c("attempts", _I32, "Requests made"),
        _c("outcome", _TEXT, "How it ended", CallOutcome),
        _n("finish_reason", _TEXT, "As the endpoint said"),
        _c("cached", _BOOL, "Whether the answer came from the prompt cache"),
        _c("created_at", _TIME, "When it was made"),
        append_only=True,
    ),
    _table(
        "matches",
        "pair of features",
        ("dictionary_a", "feature_a", "dictionary_b", "feature_b", "method", "activation_sets"),
        _c("dictionary_a", _TEXT, "First dictionary"),
        _c("feature_a", _I32, "Feature of the first dictionary"),
        _c("dictionary_b", _TEXT, "Second dictionary"),
        _c("feature_b", _I32, "Feature of the second dictionary"),
        _c("method", _TEXT, "decoder_cosine or activation_correlation"),
        _c("activation_sets", _TEXT, "Activation sets compared, joined by ' | '"),
        _c("score", _F64, "Cosine or Pearson correlation"),
        _c("rank", _I32, "Rank of b among the partners of a, counted from 0"),
        _c("mutual", _BOOL, "Whether each is the other's best"),
        _n("margin", _F64, "Score minus that of the next best partner of a"),
        _c("n", _I64, "Segments or dimensions compared"),
        _n("p_value", _F64, "Share of circular shifts whose best partner scores as high"),
        _n("q_value", _F64, "p-value after false-discovery control (Benjamini and Hochberg)"),
        _c("verdict", _TEXT, "same, split, merged, absorbed or unmatched", Verdict),
        sort_by=("dictionary_a", "feature_a", "rank"),
        row_group_rows=20_000,
    ),
    _table(
        "concepts",
        "concept",
        ("concept_id",),
        _c("concept_id", _TEXT, "Identity of a feature through time and models"),
        _c("first_seen_run", _TEXT, "Run in which it first appeared"),
        _n("label", _TEXT, "Best label of its members"),
        partition_by=(),
    ),
    _table(
        "concept_members",
        "feature of a concept",
        ("concept_id", "dictionary_id", "feature_index"),
        _c("concept_id", _TEXT, "Concept"),
        _DICTIONARY,
        _FEATURE,
        _c("first_seen_run", _TEXT, "Run in which the member joined"),
        _c("event", _TEXT, "How it joined", ConceptEvent),
        _c("confidence", _F64, "Confidence of the membership, 0 to 1"),
    ),
    _table(
        "interventions",
        "steering or ablation cell",
        ("dictionary_id", "feature_index", "mode", "strength", "prompt_set"),
        _DICTIONARY,
        _FEATURE,
        _c("mode", _TEXT, "add, clamp or ablate"),
        _c("strength", _F64, "In units of the feature's largest activation"),
        _c("prompt_set", _TEXT, "Prompts it was tried on"),
        _n("effect", _F64, "Change of the target measure"),
        _n("kl", _F64, "KL divergence of next-token distributions, nats"),
        _n("ppl_ratio", _F64, "Perplexity under the plain model, steered over clean"),
    ),
    _table(
        "annotations",
        "human label, vote or note, append-only",
        ("annotation_id",),
        _c("annotation_id", _TEXT, "Identifier"),
        _DICTIONARY,
        _FEATURE,
        _c("author", _TEXT, "Who wrote it"),
        _c("kind", _TEXT, "label, vote or note"),
        _c("text", _TEXT, "What was written"),
        _c("created_at", _TIME, "When"),
        append_only=True,
    ),
    _table(
        "aliases",
        "name and the dictionary it means from a time on",
        ("alias", "valid_from"),
        _c("alias", _TEXT, "Readable name"),
        _c("valid_from", _TIME, "From when on it means this dictionary"),
        _DICTIONARY,
        append_only=True,
    ),
)

TABLES: dict[str, TableSpec] = {table.name: table for table in _TABLES}


def feature_block(feature_index: int) -> int:
    """The partition of ``examples`` that holds a feature."""
    return feature_index // FEATURES_PER_BLOCK
