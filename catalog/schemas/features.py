"""Observations of features: statistics, contexts, and effects of steering."""

import pyarrow as pa

from catalog.schemas.spec import (
    BIN,
    BOOL,
    DICTIONARY,
    F32,
    F64,
    FEATURE,
    I32,
    I64,
    LOGIT,
    NEIGHBOUR,
    QUANTILE,
    SET,
    TEXT,
    TableSpec,
    column,
    interval,
    optional,
    table,
)
from catalog.schemas.values import ExampleSplit, FeatureStatus

FEATURES: tuple[TableSpec, ...] = (
    table(
        "features",
        "feature on an activation set",
        ("dictionary_id", "activation_set_id", "feature_index"),
        DICTIONARY,
        SET,
        FEATURE,
        column(
            "status",
            TEXT,
            "alive, unseen (never fired here) or dense (density > 0.1)",
            FeatureStatus,
        ),
        column("n_tokens", I64, "Tokens on which it fired"),
        column("density", F64, "Share of valid tokens on which it fired"),
        optional("max_activation", F32, "Largest activation; null if it never fired"),
        optional("mean_activation", F32, "Mean activation over the tokens on which it fired; null if none"),
        column("quantiles", pa.list_(QUANTILE), "Quantiles of the activations on these tokens"),
        column("histogram", pa.list_(BIN), "Histogram of the activations on these tokens"),
        column("decoder_norm", F32, "Euclidean norm of its decoder row"),
        optional("encoder_decoder_cosine", F32, "Cosine of encoder column and decoder row"),
        column("top_logits", pa.list_(LOGIT), "Tokens that it promotes most through the unembedding"),
        column("bottom_logits", pa.list_(LOGIT), "Tokens that it suppresses most through the unembedding"),
        column("nearest_by_decoder", pa.list_(NEIGHBOUR), "Nearest features by decoder cosine"),
        column("nearest_by_coactivation", pa.list_(NEIGHBOUR), "Nearest features by Jaccard index of firing"),
        column(
            "top_tokens",
            pa.list_(TEXT),
            "Most common texts of its peak tokens in the top examples",
        ),
        optional(
            "feature_group", I32, "Matryoshka prefix or frequency stratum of the feature, from 0", since=2
        ),
        optional("parent_feature", I32, "Feature of an earlier group that fires with it most often", since=2),
        optional("selection_step", F64, "Mean step at which matching pursuit selects it, from 0", since=2),
        optional(
            "threshold", F32, "Activation that it must exceed, for architectures with thresholds", since=2
        ),
        optional(
            "special_share", F64, "Share of its activation mass on special and template tokens", since=2
        ),
        optional("head_shares", pa.list_(F64), "Share of each attention head in its decoder norm", since=2),
        optional(
            "dfa_offset", I32, "Offset of the token that attention reads most for it; 0: its own", since=2
        ),
        optional(
            "dfa_entropy", F64, "Mean entropy in nats over the tokens from which attention reads it", since=2
        ),
        optional("site_norms", pa.list_(F64), "Decoder norm at each hookpoint that it writes", since=2),
        optional(
            "relative_norm",
            F64,
            "Last of these norms over their sum, in units of the activations: 0.5 is shared",
            since=2,
        ),
        optional("error_ratio", F64, "Latent scaling of the reconstruction errors, first over last", since=2),
        optional(
            "reconstruction_ratio", F64, "Latent scaling of the reconstructions, first over last", since=2
        ),
        *interval(
            "density over documents",
            "Documents with valid tokens from which density comes",
            prefix="density_",
            since=3,
        ),
        optional("metric_version", I32, "Version of the definition of density and its interval", since=3),
        optional(
            "logit_histogram",
            pa.list_(BIN),
            "Histogram of its direct effects on the logits of all tokens",
            since=3,
        ),
        optional(
            "logit_skewness", F32, "Skewness of these effects: positive if it promotes few tokens", since=3
        ),
        optional("logit_kurtosis", F32, "Excess kurtosis of these effects: 0 if they are normal", since=3),
        optional("logit_skewness_null", F32, "Skewness that 95 % of random directions stay below", since=3),
        optional(
            "logit_kurtosis_null", F32, "Excess kurtosis that 95 % of random directions stay below", since=3
        ),
        optional("n_bands", I32, "Parts by activation, q1 to qn, that examples come from; null: 5", since=3),
        version=3,
        row_group_rows=10_000,
    ),
    table(
        "examples",
        "mined context",
        ("dictionary_id", "activation_set_id", "feature_index", "band", "rank"),
        DICTIONARY,
        SET,
        FEATURE,
        column("dictionary_slug", TEXT, "Slug of the dictionary, a partition"),
        column("feature_block", I32, "feature_index // 1000, a partition"),
        column(
            "band",
            TEXT,
            "top, q1 (strongest) to q5 or q10 (weakest) by activation, or the controls random and "
            "neighbour, which do not fire",
        ),
        column("rank", I32, "Order within the band, counted from 0"),
        column("sequence_index", I32, "Packed sequence that contains it"),
        column("token_start", I32, "Position of its first token in the sequence"),
        column("document_id", TEXT, "Document of the text"),
        column("char_start", I32, "First character in the document"),
        column("char_end", I32, "Character after the last in the document"),
        column("token_ids", pa.list_(I32), "Token ids"),
        column(
            "tokens",
            pa.list_(TEXT),
            "Text of each token cut from the document; empty for the further tokens of one "
            "character and for special tokens; joined they are the text from char_start to char_end",
        ),
        column("activations", pa.list_(F32), "Activation of the feature on each token"),
        column(
            "peak_position",
            I32,
            "Position of the largest activation within the context; for controls a random position",
        ),
        column("max_activation", F32, "Largest activation within the context; 0 for controls"),
        column("split", TEXT, "Whether it may be used to explain or to score", ExampleSplit),
        optional(
            "is_special",
            pa.list_(BOOL),
            "Whether each token is special (BOS, SEP, turns of a template) or has no character",
            since=2,
        ),
        optional(
            "text_before",
            I32,
            "Tokens that the model read before the first one: 0 at the start of a document or chunk",
            since=2,
        ),
        version=2,
        sort_by=("feature_index", "band", "rank"),
        partition_by=("dictionary_slug", "subject", "feature_block"),
        row_group_rows=2_000,
    ),
    table(
        "interventions",
        "steering or ablation cell",
        ("dictionary_id", "feature_index", "mode", "strength", "prompt_set"),
        DICTIONARY,
        FEATURE,
        column("mode", TEXT, "add, clamp or ablate"),
        column("strength", F64, "In units of the feature's largest activation"),
        column("prompt_set", TEXT, "Prompts that it was tested on"),
        optional("effect", F64, "Change of the target measure"),
        optional("kl", F64, "KL divergence of next-token distributions in nats"),
        optional("ppl_ratio", F64, "Perplexity under the plain model, steered over clean"),
        planned=True,
    ),
)
