"""Selects the contexts of a feature to keep: the strongest, and samples of bands of strength.

``top`` are the strongest contexts, half of each split. ``q1`` to ``q5``, or to ``q10``, divide a uniform
sample of all other contexts into equal parts by activation, strongest first. The controls, in which the
feature does not fire, are in ``controls.py``. Shapes: F features of a block, W contexts.
"""

from dataclasses import dataclass

import numpy as np

from catalog.schemas import NEIGHBOUR_BAND, RANDOM_BAND, SILENT_BANDS, TOP_BAND, quantile_bands
from tasks.mining.config import MOST_BANDS, MiningConfig
from tasks.mining.selection import BoundedSelection, rank_in_group, take_balanced
from tasks.mining.survey import Survey

_QUANTILES = quantile_bands(MOST_BANDS)
BANDS = tuple(sorted((TOP_BAND, *_QUANTILES, *SILENT_BANDS)))
"""In the order in which rows are stored."""
NEIGHBOUR, RANDOM, TOP = (BANDS.index(band) for band in (NEIGHBOUR_BAND, RANDOM_BAND, TOP_BAND))
_CODES = np.array([BANDS.index(band) for band in _QUANTILES])


@dataclass(frozen=True)
class Contexts:
    """Contexts selected for features; ``key_W`` orders them within (feature, band)."""

    feature_W: np.ndarray
    band_W: np.ndarray
    split_W: np.ndarray
    position_W: np.ndarray
    key_W: np.ndarray

    def take(self, index: np.ndarray) -> "Contexts":
        """The contexts at ``index``."""
        return Contexts(
            self.feature_W[index],
            self.band_W[index],
            self.split_W[index],
            self.position_W[index],
            self.key_W[index],
        )


def join(parts: list[Contexts]) -> Contexts:
    """Several in one."""
    columns = zip(*((p.feature_W, p.band_W, p.split_W, p.position_W, p.key_W) for p in parts), strict=True)
    return Contexts(*(np.concatenate(column) for column in columns))


def top_contexts(survey: Survey, first: int, n_features: int, config: MiningConfig) -> Contexts:
    """The strongest contexts of a block of features."""
    held, _ = _held(survey.top, first, n_features, TOP)
    return held.take(take_balanced(held.feature_W, held.split_W, held.key_W, config.n_top))


def band_contexts(
    survey: Survey, top: Contexts, first: int, n_features: int, config: MiningConfig
) -> Contexts:
    """Contexts over the complete range of activation, without the ``top`` ones."""
    held, draw_W = _held(survey.sample, first, n_features, _CODES[0])
    fresh = ~np.isin(_identity(held), _identity(top))
    held, draw_W = held.take(fresh), draw_W[fresh]
    order = np.lexsort((held.position_W, held.key_W, held.feature_W))
    held, draw_W = held.take(order), draw_W[order]
    rank_W = rank_in_group(held.feature_W)
    n_W = np.bincount(held.feature_W - first, minlength=n_features)[held.feature_W - first]
    band_W = _CODES[rank_W * config.bands // np.maximum(n_W, 1)]
    held = Contexts(held.feature_W, band_W, held.split_W, held.position_W, held.key_W)
    groups = held.feature_W * len(BANDS) + band_W
    return held.take(take_balanced(groups, held.split_W, draw_W, config.n_per_band))


def _held(selection: BoundedSelection, first: int, n_features: int, band: int) -> tuple[Contexts, np.ndarray]:
    """Entries of a block of features keyed by descending activation, and the keys they were held by."""
    rows = slice(2 * first, 2 * (first + n_features))
    filled = selection.positions_Sn[rows] >= 0
    slot_W = np.repeat(np.arange(2 * first, 2 * (first + n_features)), filled.sum(axis=1))
    value_W = selection.values_Sn[rows][filled].astype(np.float64)
    contexts = Contexts(
        slot_W // 2, np.full(len(slot_W), band), slot_W % 2, selection.positions_Sn[rows][filled], -value_W
    )
    return contexts, selection.keys_Sn[rows][filled]


def _identity(contexts: Contexts) -> np.ndarray:
    """One int64 per (feature, position); a feature has one position per chunk."""
    identity: np.ndarray = contexts.feature_W.astype(np.int64) << 42 | contexts.position_W
    return identity
