"""Documents of an activation set, their labels, and the firings of features in them.

Shapes: G documents of the corpus, L features, R runs of one feature in one document.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.activations.text.packing import PackedTokens

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Labels = Mapping[str, npt.NDArray[np.object_]]
"""Label column → value of each document (G,), None where it has none."""

_SEQUENCES_AT_ONCE = 4_096


class FiringBlock(NamedTuple):
    """Rows of ``document_firings`` of some features, each complete, sorted by feature and document."""

    feature_R: Ints
    document_R: Ints
    """Row of the document in the corpus."""
    n_R: Ints
    max_R: Floats

    def take(self, part: "slice | npt.NDArray[np.bool_]") -> "FiringBlock":
        """Some of the rows."""
        return FiringBlock(self.feature_R[part], self.document_R[part], self.n_R[part], self.max_R[part])

    def then(self, other: "FiringBlock") -> "FiringBlock":
        """These rows, and those that follow."""
        return FiringBlock(
            np.concatenate([self.feature_R, other.feature_R]),
            np.concatenate([self.document_R, other.document_R]),
            np.concatenate([self.n_R, other.n_R]),
            np.concatenate([self.max_R, other.max_R]),
        )


@dataclass(frozen=True)
class LabelValues:
    """A label column with the values that have enough documents."""

    label: str
    values: tuple[str, ...]
    """Sorted."""
    code_G: Ints
    """Place of each document's value in ``values``; -1 for another value, -2 without label or tokens."""

    @property
    def n_documents(self) -> int:
        """Documents with the label that the set has tokens of."""
        return int((self.code_G > -2).sum())


def tokens_of_documents(tokens: PackedTokens, n_documents: int) -> Ints:
    """Valid tokens of each document of the corpus: (G,). Documents that the set does not contain have 0."""
    n_G = np.zeros(n_documents, dtype=np.int64)
    for first in range(0, tokens.n_sequences, _SEQUENCES_AT_ONCE):
        rows = slice(first, first + _SEQUENCES_AT_ONCE)
        valid = np.asarray(tokens.valid[rows])
        n_G += np.bincount(np.asarray(tokens.document_index[rows])[valid], minlength=n_documents)
    return n_G


def label_columns(labels: pa.ChunkedArray) -> dict[str, npt.NDArray[np.object_]]:
    """The columns of a map column of label names to values, by name."""
    columns: dict[str, npt.NDArray[np.object_]] = {}
    for row, pairs in enumerate(labels.to_pylist()):
        for name, value in pairs or ():
            if value is not None:
                columns.setdefault(name, np.full(len(labels), None, dtype=object))[row] = value
    return dict(sorted(columns.items()))


def label_values(
    label: str, value_G: npt.NDArray[np.object_], tokens_G: Ints, min_documents: int, max_values: int
) -> tuple[LabelValues | None, list[str]]:
    """The values of a label to test, and a reason for each value, or the label, that is skipped."""
    counts_G = (tokens_G > 0) & np.array([value is not None for value in value_G], dtype=bool)
    values, number_R, n_V = np.unique(value_G[counts_G].astype(str), return_inverse=True, return_counts=True)
    if len(values) < 2:
        only = f"one value, {values[0]}" if len(values) else "no value"
        return None, [f"label {label} has {only}, in the documents of the set"]
    if len(values) > max_values:
        return None, [f"label {label} has {len(values)} values, more than {max_values}"]
    large_V = n_V >= min_documents
    reasons = [
        f"value {value} of label {label} has {n} documents, fewer than {min_documents}"
        for value, n in zip(values[~large_V], n_V[~large_V], strict=True)
    ]
    if not large_V.any():
        return None, reasons
    code_G = np.full(len(value_G), -2, dtype=np.int64)
    code_G[counts_G] = np.where(large_V, np.cumsum(large_V) - 1, -1)[number_R]
    return LabelValues(label, tuple(values[large_V].tolist()), code_G), reasons


def firing_blocks(tables: Iterable[pa.Table], document_ids: pa.Array) -> Iterator[FiringBlock]:
    """Blocks of complete features from parts of ``document_firings`` in its order.

    Args:
        tables: Columns ``feature_index``, ``document_id`` (text, or dictionary-encoded), ``n_tokens`` and
            ``max_activation``. A feature may span several parts.
        document_ids: Ids of the corpus in its order; rows of other documents are left out.
    """
    none = np.zeros(0, dtype=np.int64)
    carried = FiringBlock(none, none, none, none.astype(np.float64))
    for table in tables:
        block = carried.then(_block(table, document_ids))
        last = block.feature_R[-1:]
        cut = int(np.searchsorted(block.feature_R, last[0])) if len(last) else 0
        carried = block.take(slice(cut, None))
        if cut:
            yield block.take(slice(cut))
    if len(carried.feature_R):
        yield carried


def _block(table: pa.Table, document_ids: pa.Array) -> FiringBlock:
    ids = pc.dictionary_encode(table["document_id"]).unify_dictionaries().combine_chunks()
    places = pc.fill_null(pc.index_in(ids.dictionary, value_set=document_ids), -1).to_numpy().astype(np.int64)
    block = FiringBlock(
        table["feature_index"].to_numpy().astype(np.int64),
        places[ids.indices.to_numpy(zero_copy_only=False)],
        table["n_tokens"].to_numpy().astype(np.int64),
        table["max_activation"].to_numpy().astype(np.float64),
    )
    return block.take(block.document_R >= 0)
