"""The strongest contexts that a feature has in common on two sets of one text.

Shapes: W contexts, L features.
"""

from typing import NamedTuple

import numpy as np

from tasks.observing.documents import Floats, Ints

TOP = 20


class TopContexts(NamedTuple):
    """Contexts of the band ``top``, at most ``TOP`` a feature, as stretches of characters of documents."""

    feature_W: Ints
    document_W: Ints
    start_W: Ints
    end_W: Ints


def shared_share(a: TopContexts, b: TopContexts, n_features: int) -> Floats:
    """Share of the contexts of each feature that overlap one of the other side: (L,).

    The contexts of the side with more count as all; NaN where neither has any.
    """
    n_L = np.maximum(*(np.bincount(side.feature_W, minlength=n_features) for side in (a, b)))
    shared_L = np.minimum(_overlapping(a, b, n_features), _overlapping(b, a, n_features))
    share: Floats = np.divide(shared_L, n_L, out=np.full(n_features, np.nan), where=n_L > 0)
    return share


def _overlapping(one: TopContexts, other: TopContexts, n_features: int) -> Ints:
    """Contexts of ``one`` that overlap one of ``other``, by feature."""
    key_W, key_V = (side.feature_W << 32 | side.document_W for side in (one, other))
    order = np.argsort(key_V, kind="stable")
    low, high = (np.searchsorted(key_V[order], key_W, side=side) for side in ("left", "right"))
    n_W = high - low
    row = np.repeat(np.arange(len(key_W)), n_W)
    place = order[np.repeat(low - np.cumsum(n_W) + n_W, n_W) + np.arange(n_W.sum())]
    meets = (one.start_W[row] < other.end_W[place]) & (other.start_W[place] < one.end_W[row])
    found = np.unique(row[meets])
    counts: Ints = np.bincount(one.feature_W[found], minlength=n_features)
    return counts
