"""How each feature is related to each value of each document label.

A document is the unit. The activation of a feature in a document is its largest one, 0 where it does not
fire. One value is compared with all other values of its label. Shapes: G documents, V values of a label,
F features that fire in enough documents, R runs of one feature in one document.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.schemas import COMMON_COLUMNS, TABLES
from tasks.common.significance import benjamini_hochberg
from tasks.observing.config import AssociationsConfig
from tasks.observing.documents import FiringBlock, Floats, Ints, Labels, LabelValues, label_values
from tasks.observing.exact_tests import (
    fisher_p,
    mean_mutual_information,
    mutual_information,
    rank_sum_p,
)

METRIC_VERSION = 1
ASSOCIATIONS_SCHEMA = pa.schema(
    [
        field
        for field in TABLES["associations"].schema.remove_metadata()
        if field.name not in ("dictionary_id", "activation_set_id", *COMMON_COLUMNS)
    ]
)
_ROWS_OF_A_BATCH = 65_536
_NO_INFORMATION = 1e-14
"""Below it a mean is rounding; the smallest real one is about half over the number of documents."""


@dataclass(frozen=True)
class LabelFigures:
    """Figures of the features that fire in enough documents of one label."""

    feature_F: Ints
    firing_F: Ints
    both_FV: Ints
    auroc_FV: Floats
    p_FV: Floats


@dataclass(frozen=True)
class Associated:
    """Rows of ``associations``, ids of dictionary and activation set left out."""

    batches: Iterator[pa.RecordBatch]
    """Sorted by feature, label and value."""
    skipped: list[str]
    """Why a label or value was left out."""
    n_tests: int
    n_found: int
    """Rows with q at most 0.05."""


def associate(
    blocks: Iterable[FiringBlock], labels: Labels, tokens_G: Ints, config: AssociationsConfig
) -> Associated:
    """Relate all features to all labels, by one reading of the firings.

    Args:
        blocks: Firings by document.
        labels: Label columns of the corpus.
        tokens_G: Valid tokens of each document in the set; documents without any do not count.
        config: Which labels and values take part.
    """
    wanted = {name: column for name, column in labels.items() if _is_wanted(name, config)}
    tested: list[LabelValues] = []
    skipped: list[str] = []
    for name, column in wanted.items():
        values, reasons = label_values(name, column, tokens_G, config.min_documents, config.max_values)
        skipped += reasons
        tested += [values] if values is not None else []
    parts: list[list[LabelFigures]] = [[] for _ in tested]
    for block in blocks if tested else ():
        for values, found in zip(tested, parts, strict=True):
            found.append(figures_of(block, values, config.min_documents))
    joined = [_joined(found, len(values.values)) for values, found in zip(tested, parts, strict=True)]
    q = [benjamini_hochberg(one.p_FV.ravel()).reshape(one.p_FV.shape) for one in joined]
    n_tests, n_found = sum(each.size for each in q), sum(int((each <= 0.05).sum()) for each in q)
    return Associated(_batches(tested, joined, q), skipped, n_tests, n_found)


def figures_of(block: FiringBlock, values: LabelValues, min_documents: int) -> LabelFigures:
    """Counts, AUROC and p of the features of a block that fire in ``min_documents`` with the label."""
    code_R = values.code_G[block.document_R]
    counted = code_R > -2
    feature_R, max_R, code_R = block.feature_R[counted], block.max_R[counted], code_R[counted]
    features, index_R, n_F = np.unique(feature_R, return_inverse=True, return_counts=True)
    rank_R, tie_share_F = _ranks(index_R, max_R, n_F)
    n_V, shape = len(values.values), (len(features), len(values.values))
    valued = code_R >= 0
    cell_R = index_R[valued] * n_V + code_R[valued]
    both_FV = np.bincount(cell_R, minlength=shape[0] * n_V).reshape(shape)
    ranks_FV: Floats = np.bincount(cell_R, rank_R[valued], shape[0] * n_V).reshape(shape).astype(np.float64)
    enough = n_F >= min_documents
    firing_F, both_FV, ranks_FV = n_F[enough], both_FV[enough], ranks_FV[enough]
    size_FV, total_FV, firing_FV = _sizes(values, firing_F)
    silent_FV = total_FV - firing_FV
    # Silent documents share the average rank (s + 1) / 2, and all that fire come after them.
    all_ranks = (size_FV - both_FV) * (silent_FV + 1) / 2 + both_FV * silent_FV + ranks_FV
    auroc = (all_ranks - size_FV * (size_FV + 1) / 2) / (size_FV * (total_FV - size_FV))
    tie_FV = np.broadcast_to(tie_share_F[enough][:, None], both_FV.shape)
    shares = [x.ravel() for x in (both_FV, firing_FV, size_FV, total_FV)]
    p_firing = fisher_p(*shares)
    p_strength = rank_sum_p(ranks_FV.ravel(), both_FV.ravel(), firing_FV.ravel(), tie_FV.ravel())
    p_FV = np.minimum(2 * np.minimum(p_firing, p_strength), 1).reshape(both_FV.shape)
    return LabelFigures(features[enough], firing_F, both_FV, auroc, p_FV)


def _is_wanted(label: str, config: AssociationsConfig) -> bool:
    return config.labels is None or label in config.labels


def _sizes(values: LabelValues, firing_F: Ints) -> tuple[Ints, Ints, Ints]:
    """Documents of the value, all documents, and documents in which the feature fires: (F, V) each."""
    size_V = np.bincount(values.code_G[values.code_G >= 0], minlength=len(values.values))
    shape = (len(firing_F), len(size_V))
    total = np.full(shape, values.n_documents, dtype=np.int64)
    return np.broadcast_to(size_V, shape), total, np.broadcast_to(firing_F[:, None], shape)


def _ranks(index_R: Ints, max_R: Floats, n_F: Ints) -> tuple[Floats, Floats]:
    """Rank of each activation among those of its feature, from 1, and the feature's share of ties."""
    if not len(max_R):
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((max_R, index_R))
    index, value = index_R[order], max_R[order]
    begins = np.append(True, (index[1:] != index[:-1]) | (value[1:] != value[:-1]))
    start = np.flatnonzero(begins)
    size = np.diff(np.append(start, len(value))).astype(np.float64)
    first_of_feature = np.cumsum(n_F) - n_F
    average = start - first_of_feature[index[start]] + (size + 1) / 2
    rank_R = np.empty(len(value))
    rank_R[order] = np.repeat(average, size.astype(np.int64))
    ties_F = np.bincount(index[start], weights=size**3 - size, minlength=len(n_F))
    return rank_R, ties_F / np.maximum(n_F.astype(np.float64) ** 3 - n_F, 1)


def _joined(parts: Sequence[LabelFigures], n_values: int) -> LabelFigures:
    nothing = np.zeros(0, dtype=np.int64)
    empty = np.zeros((0, n_values))
    parts = [LabelFigures(nothing, nothing, empty.astype(np.int64), empty, empty), *parts]
    names = ("feature_F", "firing_F", "both_FV", "auroc_FV", "p_FV")
    return LabelFigures(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _batches(
    tested: Sequence[LabelValues], figures: Sequence[LabelFigures], q: Sequence[Floats]
) -> Iterator[pa.RecordBatch]:
    """The rows of some features at a time, so that the text of all rows is never in memory."""
    n_values = sum(len(values.values) for values in tested)
    features = np.unique(np.concatenate([np.zeros(0, np.int64), *(one.feature_F for one in figures)]))
    step = max(1, _ROWS_OF_A_BATCH // max(n_values, 1))
    for start in range(0, len(features), step):
        part = features[start : start + step]
        tables = [
            _rows(values, one, q_FV, *np.searchsorted(one.feature_F, [part[0], part[-1] + 1]))
            for values, one, q_FV in zip(tested, figures, q, strict=True)
        ]
        order = [(name, "ascending") for name in ("feature_index", "label", "value")]
        yield from pa.concat_tables(tables).sort_by(order).combine_chunks().to_batches()


def _rows(values: LabelValues, one: LabelFigures, q_FV: Floats, begin: int, end: int) -> pa.Table:
    part, n_values = slice(begin, end), len(values.values)
    firing_F, both_FV = one.firing_F[part], one.both_FV[part]
    size_FV, total_FV, firing_FV = _sizes(values, firing_F)
    mean = mean_mutual_information(firing_FV.ravel(), size_FV.ravel(), total_FV.ravel())
    found = mutual_information(both_FV.ravel(), firing_FV.ravel(), size_FV.ravel(), total_FV.ravel())
    columns: dict[str, Any] = {
        "feature_index": np.repeat(one.feature_F[part], n_values).astype(np.int32),
        "label": pa.array([values.label]).take(pa.array(np.zeros(both_FV.size, dtype=np.int64))),
        "value": pa.array(values.values).take(pa.array(np.tile(np.arange(n_values), len(firing_F)))),
        "auroc": one.auroc_FV[part].ravel(),
        "mi_ratio": _quotient(found, mean),
        "n_documents": total_FV.ravel(),
        "n_value": size_FV.ravel(),
        "n_firing": firing_FV.ravel(),
        "n_both": both_FV.ravel(),
        "p_value": one.p_FV[part].ravel(),
        "q_value": q_FV[part].ravel(),
        "metric_version": np.full(both_FV.size, METRIC_VERSION, dtype=np.int32),
    }
    return pa.table({name: columns[name] for name in ASSOCIATIONS_SCHEMA.names}, schema=ASSOCIATIONS_SCHEMA)


def _quotient(above: Floats, below: Floats) -> pa.Array:
    """The ratios; null where the mean is 0, because every group of this size gives the same table."""
    none: npt.NDArray[np.bool_] = below <= _NO_INFORMATION
    return pa.array(above / np.where(none, 1.0, below), pa.float64(), mask=none)
