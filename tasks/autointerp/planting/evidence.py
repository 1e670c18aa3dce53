"""Evidence of planted features: the examples that mining would have found of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from catalog.schemas import NEIGHBOUR_BAND, RANDOM_BAND
from tasks.autointerp.planting.families import FAMILIES, Planted
from tasks.autointerp.planting.passages import Passage, Passages
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tasks.autointerp.scorer import seeded

FIRING_BAND = "top"
LEAST_FIRING = 12
"""A rule that fires in fewer passages of a half cannot be shown and judged."""
TRIES = 20


def plant(passages: Passages, n_each: int, seed: int = 0) -> list[Planted]:
    """Up to ``n_each`` different features of each family that have enough passages in the text."""
    found: list[Planted] = []
    for family, make in FAMILIES.items():
        generator, labels = seeded("plant", seed, family), set[str]()
        for _ in range(TRIES):
            planted = make(passages, generator)
            if planted is None or len(labels) == n_each:
                break
            if planted.label not in labels and _has_support(passages, planted):
                labels.add(planted.label)
                found.append(planted)
    return found


def _has_support(passages: Passages, planted: Planted) -> bool:
    halves = {"explain": [0, 0], "score": [0, 0]}
    for passage in passages.all:
        halves[passage.split][any(planted.mask(passage.tokens))] += 1
    return all(min(counts) >= LEAST_FIRING for counts in halves.values())


def planted_evidence(
    passages: Passages, planted: Sequence[Planted], limits: Mapping[str, int], seed: int = 0
) -> list[FeatureEvidence]:
    """The evidence of each feature, in their order.

    Args:
        passages: The text.
        planted: The features.
        limits: Most passages of each half: ``firing``, ``random`` and ``neighbour`` (near misses).
        seed: Seed of the draws.
    """
    rows = [row for index, one in enumerate(planted) for row in _rows(passages, one, index, limits, seed)]
    n = len(planted)
    features = pa.table(
        {
            "feature_index": pa.array(range(n), pa.int32()),
            "status": ["alive"] * n,
            "max_activation": pa.array([1.0] * n, pa.float32()),
            "density": [0.01] * n,
        }
    )
    return list(read_evidence(features, [pa.Table.from_pylist(rows)]))


def _rows(
    passages: Passages, planted: Planted, index: int, limits: Mapping[str, int], seed: int
) -> list[dict[str, object]]:
    generator = seeded("passages", seed, planted.label)
    order = generator.permutation(len(passages.all))
    counts: dict[tuple[str, str], int] = {}
    rows: list[dict[str, object]] = []
    for i in order.tolist():
        passage = passages.all[i]
        mask = planted.mask(passage.tokens)
        for band, kind in _bands(planted, passage, mask):
            key = (passage.split, band)
            if counts.get(key, 0) < limits[kind]:
                counts[key] = counts.get(key, 0) + 1
                rows.append(_row(passage, mask, index, band, len(rows)))
                break
    return rows


def _bands(planted: Planted, passage: Passage, mask: Sequence[bool]) -> list[tuple[str, str]]:
    """Where a passage belongs, best first: a near miss may also count as random text."""
    if any(mask):
        return [(FIRING_BAND, "firing")]
    random = (RANDOM_BAND, "random")
    return [(NEIGHBOUR_BAND, "neighbour"), random] if planted.is_near(passage.tokens) else [random]


def _row(passage: Passage, mask: Sequence[bool], index: int, band: str, rank: int) -> dict[str, object]:
    activations = np.asarray(mask, float)
    return {
        "feature_index": index,
        "band": band,
        "rank": rank,
        "tokens": list(passage.tokens),
        "activations": activations.tolist(),
        "peak_position": int(activations.argmax()),
        "max_activation": float(activations.max()),
        "document_id": passage.document_id,
        "char_start": passage.char_start,
        "token_start": passage.token_start,
        "split": passage.split,
    }
