"""How the features of one dictionary differ between two models that read the same text.

Shapes: G documents, L features, F features that fire in enough documents.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array
from scipy.special import stdtrit

from tasks.activations.reading.shards import ActivationSet
from tasks.common.bootstrap import FEWEST_DOCUMENTS
from tasks.common.progress import ProgressListener, silent
from tasks.common.significance import benjamini_hochberg
from tasks.dictionaries.base import Dictionary
from tasks.observing.config import ModelsComparison
from tasks.observing.documents import Floats, Ints
from tasks.observing.group_shifts import METRIC_VERSION, Shifted
from tasks.observing.paired_sums import PairedSums, StreamShifts, read_pairs
from tasks.observing.revived import Revived, revived, silent_features
from tasks.observing.sign_flips import sign_flip_p
from tasks.observing.top_contexts import TopContexts, shared_share

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SMALL = 1e-12


def model_shifts(
    dictionary: Dictionary,
    sets: tuple[ActivationSet, ActivationSet],
    contexts: tuple[TopContexts, TopContexts],
    config: ModelsComparison,
    *,
    follows_stream: bool,
    listener: ProgressListener = silent,
) -> Shifted:
    """Compare both readings of the text that the sets share; arguments as of `read_pairs`.

    ``contexts`` are the strongest contexts of both sides.

    Raises:
        UserError: when the sets share no text.
    """
    sums, shifts = read_pairs(dictionary, sets, config, follows_stream=follows_stream, listener=listener)
    a_GL, b_GL = sums.document_sums()
    feature_F = np.flatnonzero(_documents_of(a_GL + b_GL) >= config.min_documents)
    differences_GF = (b_GL - a_GL).tocsc()[:, feature_F]
    effect_F, half_F = mean_shift(differences_GF, np.concatenate(sums.segments_G))
    p_F = sign_flip_p(differences_GF, config.n_flips, config.seed, listener)
    q_F = benjamini_hochberg(p_F)
    optional: dict[str, Floats] = {
        "ci_low": effect_F - half_F,
        "ci_high": effect_F + half_F,
        "pearson": pearson(sums)[feature_F],
        "jaccard": jaccard(sums)[feature_F],
        "overlap_top": shared_share(*contexts, dictionary.d_sae)[feature_F],
        **_stream_columns(shifts, dictionary, feature_F),
    }
    n, n_documents = len(feature_F), a_GL.shape[0]
    probed = revived(dictionary, sets, config, silent_features(sums, feature_F), listener)
    columns = {
        "feature_index": feature_F.astype(np.int32),
        "density_a": sums.firings[0][feature_F] / sums.n_segments,
        "density_b": sums.firings[1][feature_F] / sums.n_segments,
        "effect": effect_F,
        **{name: _nullable(values) for name, values in optional.items()},
        "n_documents_a": np.full(n, n_documents),
        "n_documents_b": np.full(n, n_documents),
        "n_firing_a": _documents_of(a_GL)[feature_F],
        "n_firing_b": _documents_of(b_GL)[feature_F],
        **_revived_columns(probed, feature_F),
        "p_value": p_F,
        "q_value": q_F,
        "metric_version": np.full(n, METRIC_VERSION, dtype=np.int32),
    }
    return Shifted(pa.table(columns), _summary(sums, n_documents, q_F, optional) | probed.facts())


def mean_shift(differences_GF: Any, segments_G: Ints) -> tuple[Floats, Floats]:
    """Mean difference a token of each feature, and half of its 95 % interval; NaN with few documents.

    A ratio of sums over documents, whose variance is that of the residuals d - effect m (Cochran 1977,
    section 6.3), with the t of G - 1 degrees of freedom.
    """
    m_G = segments_G.astype(np.float64)
    n_documents, n_segments = len(m_G), m_G.sum()
    effect: Floats = np.asarray(differences_GF.sum(axis=0)).ravel() / n_segments
    if n_documents < FEWEST_DOCUMENTS:
        return effect, np.full(len(effect), np.nan)
    squares = np.asarray(differences_GF.multiply(differences_GF).sum(axis=0)).ravel()
    products = np.asarray(differences_GF.T @ m_G).ravel()
    residuals = np.maximum(squares - 2 * effect * products + effect**2 * (m_G**2).sum(), 0.0)
    variance = n_documents / (n_documents - 1) * residuals / n_segments**2
    return effect, float(stdtrit(n_documents - 1, 0.975)) * np.sqrt(variance)


def pearson(sums: PairedSums) -> Floats:
    """Correlation of both sides over all tokens: (L,); NaN where a side does not vary (methods B13.3)."""
    n = sums.n_segments
    spread = n * sums.squares - sums.totals**2
    varies = (spread > _SMALL * n * np.maximum(sums.squares, 1e-300)).all(axis=0)
    covariance = n * sums.products_L - sums.totals[0] * sums.totals[1]
    scale = np.sqrt(np.where(varies, spread[0], 1.0) * np.where(varies, spread[1], 1.0))
    return np.where(varies, np.clip(covariance / scale, -1.0, 1.0), np.nan)


def jaccard(sums: PairedSums) -> Floats:
    """Tokens on which both sides fire over those on which one does: (L,); NaN where none does."""
    either = sums.firings.sum(axis=0) - sums.both_L
    share: Floats = np.divide(sums.both_L, either, out=np.full(len(either), np.nan), where=either > 0)
    return share


def _documents_of(sums_GL: csr_array) -> Ints:
    """Documents in which each feature fires: (L,)."""
    n_L: Ints = np.diff((sums_GL > 0).tocsc().indptr)
    return n_L


def _stream_columns(
    shifts: StreamShifts | None, dictionary: Dictionary, feature_F: Ints
) -> dict[str, Floats]:
    if shifts is None:
        nothing = np.full(len(feature_F), np.nan)
        return {"consistency": nothing, "projected_shift": nothing}
    directions_LD = dictionary.W_dec.detach().float().cpu().numpy()
    return {
        "consistency": shifts.consistencies()[feature_F],
        "projected_shift": shifts.projections(directions_LD)[feature_F],
    }


def _revived_columns(probed: Revived, feature_F: Ints) -> dict[str, pa.Array]:
    """What probes find of silent features, null for all others."""
    place = np.searchsorted(feature_F, probed.feature_F)
    auroc, null = np.full(len(feature_F), np.nan), np.full(len(feature_F), np.nan)
    auroc[place], null[place] = probed.auroc_F, probed.null_F
    is_silent, is_revived = np.zeros(len(feature_F), dtype=bool), np.zeros(len(feature_F), dtype=bool)
    is_silent[place], is_revived[place] = True, probed.passes()
    return {
        "is_silent": pa.array(is_silent),
        "revived": pa.array(is_revived, pa.bool_(), mask=~np.isfinite(auroc)),
        "probe_auroc": _nullable(auroc),
        "probe_null": _nullable(null),
    }


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values, pa.float64(), mask=~np.isfinite(values))


def _summary(sums: PairedSums, n_documents: int, q_F: Floats, columns: dict[str, Floats]) -> dict[str, Any]:
    l0_a, l0_b = (sums.firings.sum(axis=1) / sums.n_segments).tolist()
    facts = {"n_documents": n_documents, "n_segments": sums.n_segments, "l0_a": l0_a, "l0_b": l0_b}
    spread = {}
    for name in ("pearson", "jaccard", "overlap_top"):
        known = columns[name][np.isfinite(columns[name])]
        spread[name] = np.quantile(known, QUANTILES).tolist() if len(known) else []
    return {**facts, "n_features": len(q_F), "n_found": int((q_F <= 0.05).sum()), "quantiles": spread}
