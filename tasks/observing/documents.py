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


def indexed_blocks(tables: Iterable[pa.Table], document_ids: pa.Array) -> Iterator[FiringBlock]:
    """Blocks from tables of ``document_firings`` that each hold complete features, sorted.

    Args:
        tables: Columns ``feature_index``, ``document_id`` (dictionary-encoded or text), ``n_tokens``,
            ``max_activation``.
        document_ids: Ids of the corpus in its order; rows of other documents are left out.
    """
    for table in tables:
        ids = table["document_id"].combine_chunks()
        ids = ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()
        document_R = _places(ids.dictionary, document_ids)[ids.indices.to_numpy(zero_copy_only=False)]
        known = document_R >= 0
        yield FiringBlock(
            table["feature_index"].to_numpy()[known].astype(np.int64),
            document_R[known],
            table["n_tokens"].to_numpy()[known].astype(np.int64),
            table["max_activation"].to_numpy()[known].astype(np.float64),
        )


def _places(ids: pa.Array, document_ids: pa.Array) -> Ints:
    places: Ints = pc.fill_null(pc.index_in(ids, value_set=document_ids), -1).to_numpy().astype(np.int64)
    return places
