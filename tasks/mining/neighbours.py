"""The rows of ``feature_neighbours``: a graph of features that point or fire alike.

For each feature the nearest by decoder cosine and by co-activation. Geometry flags as in methods B14 (edge
where the cosine is over 0.3): ``constructive`` if both features also fire together more than by chance,
``interference`` if they fire together less than by chance. Two nulls decide: the cosine must exceed what 95 %
of random directions of the activations' covariance reach with their nearest one, and the number of common
tokens must be unlikely at 5 % for independent features. ``confounded`` marks pairs that share documents
beyond the contexts in which both fire. Shapes: L features, P pairs, n nearest, N tokens, D ``d_in``.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from catalog.schemas import COMMON_COLUMNS, TABLES
from tasks.common.significance import benjamini_hochberg
from tasks.mining.nearest import Nearest, nearest_by_decoder
from tasks.mining.pairs import PairFirings, pair_firings
from tasks.mining.survey import Survey

if TYPE_CHECKING:
    from tasks.activations.reading.shards import ActivationSet
    from tasks.dictionaries.base import Dictionary

METRIC_VERSION = 1
LEAST_COSINE = 0.3
"""The least cosine whatever the null: in high dimensions random directions are so little alike that the null
alone would flag almost every pair."""
ALPHA = 0.05
"""Share of random directions that pass the null, and largest q-value that counts."""
_DIRECTIONS, _TOKENS = 2_048, 4_096
"""Random directions for the null and tokens for their covariance: its 95 % quantile lies above the hundred
largest of them."""
_CELLS_AT_ONCE = 16_000_000

NEIGHBOURS_SCHEMA = pa.schema(
    [
        field
        for field in TABLES["feature_neighbours"].schema.remove_metadata()
        if field.name not in ("dictionary_id", "activation_set_id", *COMMON_COLUMNS)
    ]
)


def neighbour_rows(
    dictionary: "Dictionary",
    by_decoder: Nearest,
    by_coactivation: Nearest,
    survey: Survey,
    null_cosine: float | None,
) -> pa.Table:
    """One row per feature and neighbour, both in ascending order.

    Args:
        dictionary: Gives the decoder rows.
        by_decoder: Nearest features by cosine.
        by_coactivation: Nearest features by common tokens.
        survey: Firings on the sampled tokens, and in two contexts of each sampled document.
        null_cosine: From ``nearest_cosine_of_random``; without it there are no geometry flags.
    """
    first_P, second_P = _pairs(by_decoder, by_coactivation)
    cosine_P = _cosines(dictionary.W_dec.detach().float(), first_P, second_P)
    firings = pair_firings(survey.coactivation, first_P, second_P)
    found = survey.contexts.cooccurrence(first_P, second_P)
    measured = ~np.isnan(found.p_P)
    q_P = np.full(len(first_P), np.nan)
    q_P[measured] = benjamini_hochberg(found.p_P[measured])
    geometry_P = _geometry(cosine_P, firings, null_cosine)
    constants = {
        "cosine_null": null_cosine,
        "n_tokens": survey.coactivation.n_tokens,
        "n_documents": survey.contexts.n_documents,
        "metric_version": METRIC_VERSION,
    }
    columns: dict[str, np.ndarray] = {
        "feature_index": first_P,
        "neighbour_index": second_P,
        "cosine": cosine_P,
        "n_both": firings.n_both_P.astype(np.int64),
        "jaccard": firings.jaccard_P,
        "pearson": firings.pearson_P,
        "context_lift": found.context_lift_P,
        "document_lift": found.document_lift_P,
        "document_q": q_P,
    }
    arrays = {name: _array(name, values) for name, values in columns.items()}
    arrays["geometry"] = pa.array(geometry_P.tolist(), pa.string(), mask=geometry_P == "")
    arrays["confounded"] = pa.array(q_P <= ALPHA, pa.bool_(), mask=~measured)
    for name, value in constants.items():
        arrays[name] = pa.array([value] * len(first_P), NEIGHBOURS_SCHEMA.field(name).type)
    return pa.table([arrays[name] for name in NEIGHBOURS_SCHEMA.names], schema=NEIGHBOURS_SCHEMA)


def nearest_cosine_of_random(
    dictionary: "Dictionary", activation_set: "ActivationSet", seed: int
) -> float | None:
    """Cosine that 95 % of random directions of the activations' covariance reach with their nearest one.

    Each direction is a combination of centred activations with normal coefficients, so that its covariance is
    theirs. The triangle R of their QR decomposition has the same covariance in fewer rows. There are as many
    directions as features, at most 2,048: larger dictionaries get a null that is a little low. None where the
    dictionary does not write what it reads.
    """
    if not dictionary.reconstructs_input or dictionary.W_dec.shape[1] != activation_set.d_in:
        return None
    rows = np.arange(activation_set.n_sequences)
    rows = rows[:: max(1, len(rows) * activation_set.context_length // _TOKENS)]
    valid = np.asarray(activation_set.tokens.valid[rows], dtype=bool)
    x_ND = torch.from_numpy(np.ascontiguousarray(activation_set.read(rows)[valid])).float()[:_TOKENS]
    x_ND = x_ND[x_ND.sum(dim=1).isfinite()]
    if len(x_ND) < 2:
        return None
    generator = torch.Generator().manual_seed(seed)
    n_directions = min(dictionary.d_sae, _DIRECTIONS)
    triangle_RD = torch.linalg.qr(x_ND - x_ND.mean(dim=0), mode="r").R
    coefficients = torch.randn(n_directions, len(triangle_RD), generator=generator)
    nearest = nearest_by_decoder(coefficients @ triangle_RD, 1)
    return float(np.quantile(nearest.scores_Ln[:, 0], 1 - ALPHA))


def _geometry(cosine_P: np.ndarray, firings: PairFirings, null_cosine: float | None) -> np.ndarray:
    """The flag of each pair, empty for none."""
    least = np.inf if null_cosine is None else max(LEAST_COSINE, null_cosine)
    more_P = (firings.pearson_P > 0) & (firings.p_more_P <= ALPHA)
    fewer_P = (firings.pearson_P < 0) & (firings.p_fewer_P <= ALPHA)
    near_P = cosine_P > least
    return np.select([near_P & more_P, near_P & fewer_P], ["constructive", "interference"], "")


def _pairs(*lists: Nearest) -> tuple[np.ndarray, np.ndarray]:
    """Each feature with every neighbour of any list, once: two int64 columns in ascending order."""
    n_features = len(lists[0].features_Ln)
    parts = []
    for nearest in lists:
        feature, rank = np.nonzero(nearest.features_Ln >= 0)
        parts.append(feature.astype(np.int64) * n_features + nearest.features_Ln[feature, rank])
    first_P, second_P = np.divmod(np.unique(np.concatenate(parts)), max(1, n_features))
    return first_P, second_P


def _cosines(w_dec_LD: torch.Tensor, first_P: np.ndarray, second_P: np.ndarray) -> np.ndarray:
    """Cosine of decoder rows of pairs, in blocks: NaN where a row is zero."""
    unit_LD = w_dec_LD / w_dec_LD.norm(dim=1, keepdim=True)
    step = max(1, _CELLS_AT_ONCE // unit_LD.shape[1])
    parts = [
        (unit_LD[first_P[at : at + step]] * unit_LD[second_P[at : at + step]]).sum(dim=1).cpu().numpy()
        for at in range(0, len(first_P), step)
    ]
    return np.concatenate([np.zeros(0, np.float32), *parts])


def _array(name: str, values_P: np.ndarray) -> pa.Array:
    """A column of its type; NaN is null."""
    missing = np.isnan(values_P) if values_P.dtype.kind == "f" else None
    return pa.array(values_P.astype(NEIGHBOURS_SCHEMA.field(name).type.to_pandas_dtype()), mask=missing)
