"""The rows of ``features``: one per latent, also for those that never fired.

Shapes: L features, D ``d_in``, n kept.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from catalog.schemas import BIN, FEATURES_PER_BLOCK, LOGIT, NEIGHBOUR, QUANTILE, TABLES
from tasks.mining.bands import top_contexts
from tasks.mining.config import MiningConfig
from tasks.mining.logits import LogitEffects
from tasks.mining.nearest import Nearest
from tasks.mining.statistics import QUANTILES, FiringStatistics
from tasks.mining.survey import Survey
from tasks.mining.texts import cut_tokens, list_offsets

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens
    from tasks.dictionaries.base import Dictionary

_LEFT_TO_CALLER = ("dictionary_id", "activation_set_id", "fingerprint", "slice", "subject")
_N_TOP_TOKENS = 5

METRIC_VERSION = 1
"""Version of the definition of the density and its interval."""

FEATURES_SCHEMA = pa.schema(
    [field for field in TABLES["features"].schema.remove_metadata() if field.name not in _LEFT_TO_CALLER]
)


def feature_rows(
    dictionary: "Dictionary",
    survey: Survey,
    by_decoder: Nearest,
    by_coactivation: Nearest,
    effects: LogitEffects | None,
    token_texts: pa.Array | None,
    top_tokens: list[list[str]],
    of_method: Mapping[str, pa.Array],
    config: MiningConfig,
) -> pa.Table:
    """Statistics, geometry, logits, neighbours and ``of_method`` as a table with ``FEATURES_SCHEMA``."""
    statistics = survey.statistics
    n_tokens_L = statistics.n_tokens_L
    fired_L = n_tokens_L > 0
    density_L = n_tokens_L / max(1, survey.n_tokens)
    status_L = np.select([~fired_L, density_L > config.dense_above], ["unseen", "dense"], "alive")
    mean_L = statistics.sum_L / np.maximum(n_tokens_L, 1)
    norms_L, cosine_L = decoder_geometry(dictionary)
    low_L, high_L = _density_intervals(survey)
    n_features = len(n_tokens_L)
    columns: dict[str, pa.Array] = {
        "feature_index": pa.array(np.arange(n_features), pa.int32()),
        "status": pa.array(status_L.tolist(), pa.string()),
        "n_tokens": pa.array(n_tokens_L),
        "density": pa.array(density_L),
        "density_ci_low": pa.array(low_L, mask=np.isnan(low_L)),
        "density_ci_high": pa.array(high_L, mask=np.isnan(high_L)),
        "n_documents": pa.array(np.full(n_features, survey.spread.n_documents), pa.int64()),
        "metric_version": pa.array(np.full(n_features, METRIC_VERSION), pa.int32()),
        "n_bands": pa.array(np.full(n_features, config.bands), pa.int32()),
        "max_activation": pa.array(statistics.max_L, mask=~fired_L),
        "mean_activation": pa.array(mean_L.astype(np.float32), mask=~fired_L),
        "quantiles": _quantiles(statistics, fired_L),
        "histogram": _histograms(statistics),
        "decoder_norm": pa.array(norms_L),
        "encoder_decoder_cosine": pa.array(cosine_L, mask=~np.isfinite(cosine_L)),
        "top_logits": _logits(effects, token_texts, n_features, top=True),
        "bottom_logits": _logits(effects, token_texts, n_features, top=False),
        **({} if effects is None else _logit_distribution(effects)),
        "nearest_by_decoder": _neighbours(by_decoder),
        "nearest_by_coactivation": _neighbours(by_coactivation),
        "top_tokens": pa.array(top_tokens, pa.list_(pa.string())),
        **of_method,
    }
    rows = [
        columns[field.name] if field.name in columns else pa.nulls(n_features, field.type)
        for field in FEATURES_SCHEMA
    ]
    return pa.table(rows, schema=FEATURES_SCHEMA)


def _density_intervals(survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of each density; non-finite tokens are assumed equally frequent in all documents."""
    low_L, high_L = survey.spread.intervals(survey.statistics.n_tokens_L)
    scale = survey.spread.n_tokens / max(1, survey.n_tokens)
    return low_L * scale, np.minimum(high_L * scale, 1.0)


def decoder_geometry(dictionary: "Dictionary") -> tuple[np.ndarray, np.ndarray]:
    """Norm of each decoder row and its cosine with the encoder column.

    The cosine is NaN where a norm is 0, and where the dictionary does not write what it reads.
    """
    with torch.inference_mode():
        norms_L = dictionary.W_dec.norm(dim=1)
        if not dictionary.reconstructs_input:
            return norms_L.float().cpu().numpy(), np.full(dictionary.d_sae, np.nan, np.float32)
        encoder_norms_L = dictionary.W_enc.norm(dim=0)
        dot_L = (dictionary.W_enc.T * dictionary.W_dec).sum(dim=1)
        cosine_L = dot_L / (norms_L * encoder_norms_L)
    return norms_L.float().cpu().numpy(), cosine_L.float().cpu().numpy()


def top_tokens(
    survey: Survey, tokens: "PackedTokens", documents: pa.Table, config: MiningConfig
) -> list[list[str]]:
    """For each feature the most common texts of the peak tokens of its strongest contexts."""
    result: list[list[str]] = []
    n_features = len(survey.statistics.n_tokens_L)
    for first in range(0, n_features, FEATURES_PER_BLOCK):
        n_block = min(FEATURES_PER_BLOCK, n_features - first)
        top = top_contexts(survey, first, n_block, config)
        sequence, token = np.divmod(top.position_W, tokens.segment.shape[1])
        start, end = (np.asarray(chars[sequence, token]) for chars in (tokens.char_start, tokens.char_end))
        document = np.asarray(tokens.document_index[sequence, token])
        cut = cut_tokens(documents["text"], document, start[:, None], end[:, None])
        counters: list[Counter[str]] = [Counter() for _ in range(n_block)]
        for feature, utf8 in zip((top.feature_W - first).tolist(), cut.utf8_W, strict=True):
            if utf8:
                counters[feature][utf8.decode()] += 1
        result += [[text for text, _ in counter.most_common(_N_TOP_TOKENS)] for counter in counters]
    return result


def _quantiles(statistics: FiringStatistics, fired_L: np.ndarray) -> pa.ListArray:
    values = statistics.quantiles()[fired_L].reshape(-1)
    levels = np.tile(np.array(QUANTILES, dtype=np.float32), int(fired_L.sum()))
    structs = pa.StructArray.from_arrays([pa.array(levels), pa.array(values)], fields=list(QUANTILE))
    return pa.ListArray.from_arrays(list_offsets(fired_L * len(QUANTILES)), structs)


def _histograms(statistics: FiringStatistics) -> pa.ListArray:
    histograms = [statistics.histogram(feature) for feature in range(len(statistics.n_tokens_L))]
    low = np.concatenate([h.edges[:-1] for h in histograms]).astype(np.float32)
    high = np.concatenate([h.edges[1:] for h in histograms]).astype(np.float32)
    counts = np.concatenate([h.counts for h in histograms])
    structs = pa.StructArray.from_arrays([pa.array(low), pa.array(high), pa.array(counts)], fields=list(BIN))
    return pa.ListArray.from_arrays(list_offsets(np.array([len(h.counts) for h in histograms])), structs)


def _logits(
    effects: LogitEffects | None, token_texts: pa.Array | None, n_features: int, *, top: bool
) -> pa.ListArray:
    if effects is None or token_texts is None:
        return pa.array([[]] * n_features, pa.list_(LOGIT))
    ids = effects.top_ids if top else effects.bottom_ids
    values = effects.top_logits if top else effects.bottom_logits
    flat = pa.array(ids.reshape(-1), pa.int32())
    structs = pa.StructArray.from_arrays(
        [flat, token_texts.take(flat), pa.array(values.reshape(-1).astype(np.float32))], fields=list(LOGIT)
    )
    return pa.ListArray.from_arrays(list_offsets(np.full(n_features, ids.shape[1])), structs)


def _logit_distribution(effects: LogitEffects) -> dict[str, pa.Array]:
    """Histogram and moments of the effects on all tokens; null where all effects are equal."""
    found, null = effects.distribution, effects.null
    n_features, n_bins = found.counts_LH.shape
    edges_LE = np.linspace(found.low_L, found.high_L, n_bins + 1, axis=1).astype(np.float32)
    flat = (edges_LE[:, :-1], edges_LE[:, 1:], found.counts_LH)
    structs = pa.StructArray.from_arrays([pa.array(part.reshape(-1)) for part in flat], fields=list(BIN))
    equal_L = np.isnan(found.skewness_L)
    offsets = list_offsets(np.full(n_features, n_bins))
    return {
        "logit_histogram": pa.ListArray.from_arrays(offsets, structs, mask=pa.array(equal_L)),
        "logit_skewness": pa.array(found.skewness_L, mask=equal_L),
        "logit_kurtosis": pa.array(found.kurtosis_L, mask=equal_L),
        "logit_skewness_null": pa.array(np.full(n_features, null.skewness, np.float32)),
        "logit_kurtosis_null": pa.array(np.full(n_features, null.kurtosis, np.float32)),
    }


def _neighbours(nearest: Nearest) -> pa.ListArray:
    present = nearest.features_Ln >= 0
    structs = pa.StructArray.from_arrays(
        [pa.array(nearest.features_Ln[present]), pa.array(nearest.scores_Ln[present])], fields=list(NEIGHBOUR)
    )
    return pa.ListArray.from_arrays(list_offsets(present.sum(axis=1)), structs)
