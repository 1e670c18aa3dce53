"""What features do on documents: firings per document, and differences between sets, texts and labels."""

from catalog.schemas.spec import (
    BOOL,
    DICTIONARY,
    F32,
    F64,
    FEATURE,
    I32,
    I64,
    SET,
    TEXT,
    TIME,
    TableSpec,
    column,
    optional,
    table,
)
from catalog.schemas.values import ComparisonKind

OBSERVATIONS: tuple[TableSpec, ...] = (
    table(
        "document_firings",
        "feature and document in which it fires",
        ("dictionary_id", "activation_set_id", "feature_index", "document_id"),
        DICTIONARY,
        SET,
        FEATURE,
        column("document_id", TEXT, "Document in which the feature fires"),
        column("n_tokens", I32, "Tokens of the document on which it fires"),
        column("max_activation", F32, "Largest activation in the document"),
        column("sum_activation", F32, "Sum of the activations in the document"),
        row_group_rows=131_072,
    ),
    table(
        "associations",
        "feature and value of a document label",
        ("dictionary_id", "activation_set_id", "feature_index", "label", "value"),
        DICTIONARY,
        SET,
        FEATURE,
        column("label", TEXT, "Label column of the documents"),
        column("value", TEXT, "Value of the label, compared with all its other values"),
        column(
            "auroc",
            F64,
            "Probability that the feature's largest activation is higher in a document of this value "
            "than in another one; ties count half, and 0.5 is chance",
        ),
        optional(
            "mi_ratio",
            F64,
            "Mutual information of firing in a document and the value, over its mean for random values "
            "of the same number of documents: 1 is chance; null if it fires in all documents",
        ),
        column("n_documents", I64, "Documents with the label"),
        column("n_value", I64, "Documents of this value"),
        column("n_firing", I64, "Documents with the label in which the feature fires"),
        column("n_both", I64, "Documents of this value in which the feature fires"),
        column(
            "p_value",
            F64,
            "Twice the smaller p of two tests: that it fires equally often (Fisher), and equally "
            "strongly where it fires (rank sum)",
        ),
        column("q_value", F64, "p_value after Benjamini-Hochberg over all features and values of the label"),
        column("metric_version", I32, "Version of the definition of these figures"),
    ),
    table(
        "feature_shifts",
        "feature and comparison of two sets or groups of documents",
        ("dictionary_id", "set_a", "set_b", "comparison", "feature_index"),
        DICTIONARY,
        column("set_a", TEXT, "Activation set of side a"),
        column(
            "set_b",
            TEXT,
            "Activation set of side b; that of side a for documents of one set",
        ),
        column("comparison", TEXT, "What is compared, for example labels source: reviews | addresses"),
        FEATURE,
        column(
            "kind",
            TEXT,
            "models: the same text read by two models; labels, corpora, growth: two groups of documents",
            ComparisonKind,
        ),
        column("density_a", F64, "Share of the tokens of side a on which the feature fires"),
        column("density_b", F64, "Share of the tokens of side b on which the feature fires"),
        column(
            "effect",
            F64,
            "Positive if b is larger. models: mean activation per token, b minus a; else log odds ratio "
            "of firing in a document, 0.5 added to all four counts",
        ),
        optional("ci_low", F64, "Low end of the 95 % interval of the effect over documents"),
        optional("ci_high", F64, "High end of the 95 % interval of the effect over documents"),
        optional("pearson", F64, "Correlation of the activations on aligned tokens; models only"),
        optional("jaccard", F64, "Tokens on which both sides fire over those on which one does; models only"),
        optional("overlap_top", F64, "Share of the 20 top contexts that both sides have; models only"),
        optional(
            "consistency",
            F64,
            "Mean cosine of the shifts of the activation vector, over pairs of tokens on which side a "
            "fires; models only",
        ),
        optional(
            "projected_shift",
            F64,
            "Mean shift of the activation vector on these tokens along the decoder row; models only",
        ),
        optional("n_documents_a", I64, "Documents of side a"),
        optional("n_documents_b", I64, "Documents of side b"),
        optional("n_firing_a", I64, "Documents of side a in which it fires"),
        optional("n_firing_b", I64, "Documents of side b in which it fires"),
        optional(
            "is_silent", BOOL, "Whether it fires on b at most a twentieth as often as on a; models only"
        ),
        optional(
            "revived",
            BOOL,
            "Silent on b: whether a linear probe of b still finds where it fires on a; null if not silent "
            "or too few tokens decide; models only",
        ),
        optional("probe_auroc", F64, "AUROC of this probe on documents that it has not seen; models only"),
        optional("probe_null", F64, "The largest AUROC of probes for shuffled firing; models only"),
        column(
            "p_value",
            F64,
            "models: signs of the documents' differences flipped at random; else Fisher's exact test",
        ),
        column("q_value", F64, "p_value after Benjamini-Hochberg over the features of this comparison"),
        column("metric_version", I32, "Version of the definition of these figures"),
    ),
    table(
        "decodability",
        "feature and hookpoint from which a linear probe predicts its firing",
        ("dictionary_id", "activation_set_id", "feature_index", "depth"),
        DICTIONARY,
        SET,
        FEATURE,
        column("hookpoint", TEXT, "Hookpoint of the model whose activations the probe reads"),
        column("depth", I32, "Place of the hookpoint among those probed, in the order of the model, from 0"),
        column("is_own", BOOL, "Whether the dictionary reads it"),
        column("auroc", F64, "AUROC of the probe on tokens of eval documents; 0.5 is chance"),
        column("null_auroc", F64, "The same for firing shuffled over the tokens, mean over shuffles"),
        column("null_high", F64, "The largest of these"),
        column(
            "is_decodable", BOOL, "Whether auroc reaches the threshold of the suite and exceeds null_high"
        ),
        column("is_first", BOOL, "Whether it is the first hookpoint at which the feature is decodable"),
        column("n_firing", I64, "Eval tokens on which the feature fires"),
        column("n_tokens", I64, "Eval tokens"),
        column("metric_version", I32, "Version of the definition of these figures"),
    ),
    table(
        "alarms",
        "metric that left the range of its past nights",
        ("run_id", "subject", "metric"),
        column("run_id", TEXT, "Run that computed the value"),
        column("about", TEXT, "Alias of the dictionary, or the aliases of two matched ones"),
        column("metric", TEXT, "Metric with its variant, for example fvu"),
        column("value", F64, "The new value"),
        column("expected", F64, "Median of the earlier values"),
        column(
            "tolerance",
            F64,
            "Distance from it that is tolerated: a multiple of their median absolute deviation, with a floor",
        ),
        column("n_before", I32, "Earlier values, one for each training of that alias"),
        column("raised_at", TIME, "When the alarm was raised"),
        append_only=True,
    ),
)
