"""Contexts in which a feature does not fire: random ones, and those of its near features.

A control is first proposed, then kept if the feature is silent in the complete context; more are proposed
than are wanted. Shapes: F features of a block, W proposed contexts, n nearest features.
"""

import numpy as np

from tasks.mining.bands import NEIGHBOUR, RANDOM, Contexts, join
from tasks.mining.config import MiningConfig
from tasks.mining.hashing import hash64
from tasks.mining.selection import BoundedSelection, rank_in_group, take_balanced
from tasks.mining.survey import Survey

_SPARE = 4
"""Draws beyond those wanted: some fall on a context that another draw has taken."""
_MOST_DRAWS = 8
"""A feature that fires nearly everywhere would need draws without end."""
_NEIGHBOURS_ASKED = 8
"""More than are needed: some of the nearest have no context in this split."""
_CONTEXTS_PER_NEIGHBOUR = 10
"""Two neighbours fill the default `n_neighbour`."""


def propose_controls(
    survey: Survey, nearest_Ln: np.ndarray, first: int, n_features: int, config: MiningConfig
) -> Contexts:
    """Places for controls of the features of a block that fire at all."""
    features = first + np.flatnonzero(survey.statistics.n_tokens_L[first : first + n_features])
    parts = [
        proposal
        for split in (0, 1)
        for proposal in (
            _random(survey, features, split, config),
            _neighbours(survey, features, nearest_Ln, split, config),
        )
    ]
    return join(parts)


def keep_silent(
    proposed: Contexts, chunk_W: np.ndarray, silent_W: np.ndarray, config: MiningConfig
) -> np.ndarray:
    """Indices of the controls to keep: silent, one per chunk, balanced between the splits."""
    kept = []
    for band, n_wanted in ((NEIGHBOUR, config.n_neighbour), (RANDOM, config.n_random)):
        usable = np.flatnonzero(silent_W & (proposed.band_W == band))
        order = np.lexsort((proposed.key_W[usable], chunk_W[usable], proposed.feature_W[usable]))
        usable = usable[order]
        same = np.zeros(len(usable), dtype=bool)
        same[1:] = (chunk_W[usable][1:] == chunk_W[usable][:-1]) & (
            proposed.feature_W[usable][1:] == proposed.feature_W[usable][:-1]
        )
        usable = usable[~same]
        chosen = proposed.take(usable)
        kept.append(usable[take_balanced(chosen.feature_W, chosen.split_W, chosen.key_W, n_wanted)])
    return np.concatenate(kept)


def _random(survey: Survey, features: np.ndarray, split: int, config: MiningConfig) -> Contexts:
    """Draws from the pool, more of them for features that fire on many chunks."""
    places = survey.pool.positions_Sn[split]
    places = places[places >= 0]
    fires_on = survey.statistics.n_chunks_L[features] / max(1, survey.n_chunks)
    wanted = config.n_random - config.n_random // 2 + _SPARE
    n_draws = np.ceil(wanted / np.clip(1 - fires_on, 1 / _MOST_DRAWS, 1)).astype(np.int64)
    if len(places) == 0 or config.n_random == 0:
        n_draws[:] = 0
    feature_W = np.repeat(features, n_draws)
    draw_W = rank_in_group(feature_W)
    index_W = hash64(config.seed, feature_W, draw_W, np.full_like(draw_W, split)) % max(1, len(places))
    return Contexts(
        feature_W,
        np.full(len(feature_W), RANDOM),
        np.full(len(feature_W), split),
        places[index_W.astype(np.int64)] if len(places) else np.zeros(0, dtype=np.int64),
        draw_W.astype(np.float64),
    )


def _neighbours(
    survey: Survey, features: np.ndarray, nearest_Ln: np.ndarray, split: int, config: MiningConfig
) -> Contexts:
    """Contexts of the nearest features, the nearest and strongest first."""
    contexts_Lc = _alternate(survey.top, survey.sample, split, _CONTEXTS_PER_NEIGHBOUR)
    asked_Fn = nearest_Ln[features, :_NEIGHBOURS_ASKED]
    place_Fnc = np.where(asked_Fn[:, :, None] >= 0, contexts_Lc[asked_Fn], -1)
    place_Fcn = place_Fnc.transpose(0, 2, 1).reshape(len(features), place_Fnc.shape[1] * place_Fnc.shape[2])
    usable = (place_Fcn >= 0) & (config.n_neighbour > 0)
    row, order = np.nonzero(usable)
    return Contexts(
        features[row],
        np.full(len(row), NEIGHBOUR),
        np.full(len(row), split),
        place_Fcn[usable],
        order.astype(np.float64),
    )


def _alternate(top: BoundedSelection, sample: BoundedSelection, split: int, n: int) -> np.ndarray:
    """For each feature places of its contexts of one split: strongest and sampled ones in turn."""
    half = min(n // 2, top.n, max(sample.n, 1))
    strongest = top.positions_Sn[split::2, :half]
    sampled = sample.positions_Sn[split::2, :half] if sample.n else np.full_like(strongest, -1)
    return np.stack([strongest, sampled], axis=2).reshape(len(strongest), -1)
