"""Features whose firing differs between two groups of documents: values of a label, or corpora.

Documents are the units of sampling: a document fires or does not. Shapes: G documents, L features, F those
that fire in enough documents.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.errors import UserError
from tasks.common.significance import benjamini_hochberg
from tasks.observing.documents import FiringBlock, Floats, Ints
from tasks.observing.exact_tests import fisher_p

METRIC_VERSION = 1
_Z = 1.959963984540054
_HALDANE = 0.5


@dataclass(frozen=True)
class GroupCounts:
    """How often features fire in a group of documents."""

    n_documents: int
    n_tokens: int
    documents_L: Ints
    """Documents in which each feature fires."""
    tokens_L: Ints
    """Tokens on which it fires."""


@dataclass(frozen=True)
class Shifted:
    """Rows of ``feature_shifts``, ids and names left out, and a summary."""

    table: pa.Table
    facts: dict[str, Any]


def count_groups(
    blocks: Iterable[FiringBlock], group_G: Ints, tokens_G: Ints, n_features: int, n_groups: int = 2
) -> list[GroupCounts]:
    """Count the firings of each group by one reading.

    Args:
        blocks: Firings by document.
        group_G: Group of each document from 0; negative for none.
        tokens_G: Valid tokens of each document; documents without any do not count.
        n_features: Features of the dictionary, L.
        n_groups: Number of groups.
    """
    documents = np.zeros((n_groups, n_features), dtype=np.int64)
    tokens = np.zeros((n_groups, n_features), dtype=np.int64)
    group_G = np.where(tokens_G > 0, group_G, -1)
    for block in blocks:
        group_R = group_G[block.document_R]
        for group in range(n_groups):
            part = group_R == group
            features = block.feature_R[part]
            documents[group] += np.bincount(features, minlength=n_features)
            counted = np.bincount(features, weights=block.n_R[part], minlength=n_features)
            tokens[group] += counted.astype(np.int64)
    return [
        GroupCounts(
            int((group_G == group).sum()),
            int(tokens_G[group_G == group].sum()),
            documents[group],
            tokens[group],
        )
        for group in range(n_groups)
    ]


def check_sizes(name: str, sides: dict[str, int], min_documents: int) -> None:
    """Refuse sides with too few documents.

    Raises:
        UserError: naming the comparison, the side and what it has.
    """
    for side, n in sides.items():
        if n < min_documents:
            raise UserError(
                f"comparison {name}: {side!r} has {n} documents with tokens in the activation set, fewer "
                f"than {min_documents}: check the value, cache more tokens or lower min_documents"
            )


def group_shifts(a: GroupCounts, b: GroupCounts, min_documents: int) -> Shifted:
    """Log odds of firing in a document, b against a, of features that fire in ``min_documents`` of both.

    0.5 is added to all four counts (Haldane 1956), and the interval is Woolf's with the same counts (Gart
    1966). p is Fisher's exact test, q Benjamini-Hochberg over the features compared.
    """
    feature_F = np.flatnonzero(a.documents_L + b.documents_L >= min_documents)
    fires_a, fires_b = a.documents_L[feature_F], b.documents_L[feature_F]
    effect_F, half_F = log_odds(fires_a, a.n_documents, fires_b, b.n_documents)
    group, n = (np.full(len(feature_F), value) for value in (b.n_documents, a.n_documents + b.n_documents))
    p_F = fisher_p(fires_b, fires_a + fires_b, group, n)
    q_F = benjamini_hochberg(p_F)
    table = pa.table(
        {
            "feature_index": feature_F.astype(np.int32),
            "density_a": a.tokens_L[feature_F] / a.n_tokens,
            "density_b": b.tokens_L[feature_F] / b.n_tokens,
            "effect": effect_F,
            "ci_low": effect_F - half_F,
            "ci_high": effect_F + half_F,
            "n_documents_a": np.full(len(feature_F), a.n_documents),
            "n_documents_b": np.full(len(feature_F), b.n_documents),
            "n_firing_a": fires_a,
            "n_firing_b": fires_b,
            "p_value": p_F,
            "q_value": q_F,
            "metric_version": np.full(len(feature_F), METRIC_VERSION, dtype=np.int32),
        }
    )
    sides = {"n_documents_a": a.n_documents, "n_documents_b": b.n_documents}
    return Shifted(table, {**sides, "n_features": len(feature_F), "n_found": int((q_F <= 0.05).sum())})


def log_odds(fires_a: Ints, n_a: int, fires_b: Ints, n_b: int) -> tuple[Floats, Floats]:
    """Log odds ratio of firing, b against a, and half the width of its 95 % interval."""
    cells = [counts + _HALDANE for counts in (fires_a, n_a - fires_a, fires_b, n_b - fires_b)]
    effect: Floats = np.log(cells[2] / cells[3]) - np.log(cells[0] / cells[1])
    half: Floats = _Z * np.sqrt(sum(1 / cell for cell in cells))
    return effect, half
