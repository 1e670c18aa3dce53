"""Blocks of firings, values of labels, and tokens of documents."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from tasks.observing.documents import firing_blocks, label_values, tokens_of_documents

IDS = pa.array(["a", "b", "c", "d"])


def rows(features: list[int], documents: list[str] | pa.Array) -> pa.Table:
    n = len(features)
    return pa.table(
        {
            "feature_index": pa.array(features, pa.int32()),
            "document_id": documents,
            "n_tokens": pa.array(range(1, n + 1), pa.int32()),
            "max_activation": pa.array(np.arange(n) + 0.5, pa.float32()),
        }
    )


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_blocks_hold_complete_features_however_the_rows_are_cut(size: int, encoded: bool) -> None:
    whole = rows([0, 0, 2, 2, 2, 3, 7], ["a", "c", "a", "b", "d", "zz", "b"])
    parts = [whole.slice(start, size) for start in range(0, 7, size)]
    if encoded:
        column = whole.schema.get_field_index("document_id")
        parts = [p.set_column(column, "document_id", p["document_id"].dictionary_encode()) for p in parts]
    blocks = list(firing_blocks(parts, IDS))
    feature, document, n, largest = (np.concatenate(column).tolist() for column in zip(*blocks, strict=True))
    assert feature == [0, 0, 2, 2, 2, 7]
    assert document == [0, 2, 0, 1, 3, 1]
    assert n == [1, 2, 3, 4, 5, 7]
    assert largest == [0.5, 1.5, 2.5, 3.5, 4.5, 6.5]
    features = [set(block.feature_R.tolist()) for block in blocks]
    assert sum(map(len, features)) == len(set().union(*features))


def test_no_rows_are_no_blocks() -> None:
    assert list(firing_blocks([], IDS)) == []
    assert list(firing_blocks([rows([], pa.array([], pa.string()))], IDS)) == []


def test_tokens_of_documents_count_the_valid_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.observing.documents._SEQUENCES_AT_ONCE", 1)
    tokens = SimpleNamespace(
        n_sequences=2,
        valid=np.array([[True, True, False], [True, False, True]]),
        document_index=np.array([[0, 0, 0], [2, -1, 2]]),
    )
    assert tokens_of_documents(tokens, 4).tolist() == [2, 0, 2, 0]  # type: ignore[arg-type]


def test_codes_of_values_tell_other_values_from_none() -> None:
    column = np.array(["x", "x", "y", None, "x", "z", "z"], dtype=object)
    values, reasons = label_values("kind", column, np.array([1, 1, 1, 1, 0, 1, 1]), 2, 50)
    assert values is not None
    assert (values.values, values.code_G.tolist()) == (("x", "z"), [0, 0, -1, -2, -2, 1, 1])
    assert values.n_documents == 5
    assert reasons == ["value y of label kind has 1 documents, fewer than 2"]
