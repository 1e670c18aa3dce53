"""Packing keeps every token once, in order, with its place in its document."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.activations.text.packing import PADDING, PackedSequence, PackingConfig, pack
from tasks.activations.text.tokenisation import TokenisedDocument
from tests.searching import examples

BOS, END, PAD = 1, 2, 0


def _document(index: int, length: int) -> TokenisedDocument:
    ids = np.arange(length, dtype=np.int32) + 100 * (index + 1)
    starts = np.arange(length, dtype=np.int32) * 3
    return TokenisedDocument(index, ids, starts, starts + 3)


def _config(length: int, packing: str = "block", bos: str = "drop", end: int | None = None) -> PackingConfig:
    return PackingConfig(length, packing, bos, False, BOS, end, PAD)  # type: ignore[arg-type]


def _text_tokens(sequences: list[PackedSequence]) -> list[int]:
    tokens = []
    for sequence in sequences:
        is_text = (sequence.segment != PADDING) & (sequence.token_ids >= 100)
        tokens += sequence.token_ids[is_text].tolist()
    return tokens


@settings(max_examples=examples(150), deadline=None)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12),
    context=st.integers(4, 24),
    packing=st.sampled_from(["block", "per_document"]),
    bos=st.sampled_from(["none", "keep", "drop"]),
    end=st.sampled_from([None, END]),
)
def test_every_token_is_packed_once_and_in_order(
    lengths: list[int], context: int, packing: str, bos: str, end: int | None
) -> None:
    config = _config(context, packing, bos, end)
    documents = [_document(i, length) for i, length in enumerate(lengths)]
    sequences = list(pack(documents, config, 10**9))
    assert _text_tokens(sequences) == [t for document in documents for t in document.token_ids.tolist()]
    for sequence in sequences:
        n = sequence.n_filled
        assert np.all(sequence.segment[:n] >= 0)
        assert np.all(sequence.segment[n:] == PADDING)
        assert not sequence.valid[n:].any()
        assert np.all(np.diff(sequence.segment[:n]) >= 0)
        for segment in range(sequence.n_segments):
            inside = sequence.segment == segment
            assert len(set(sequence.document_index[inside])) == 1
            ids = sequence.token_ids[inside]
            assert (ids[0] == BOS) == (bos != "none")
            assert (ids[-1] == END) == (bos != "none" and end is not None)
            is_text = ids >= 100
            index = int(sequence.document_index[inside][0])
            text_starts = (ids[is_text] - 100 * (index + 1)) * 3
            assert np.array_equal(sequence.char_start[inside][is_text], text_starts)
            assert np.array_equal(sequence.char_end[inside][is_text], text_starts + 3)
            assert np.array_equal(sequence.valid[inside], is_text | (bos == "keep"))
        if packing == "per_document":
            assert sequence.n_segments == 1


def test_block_wastes_nothing_but_the_end() -> None:
    sequences = list(pack([_document(i, 17) for i in range(9)], _config(10, bos="none"), 10**9))
    assert [sequence.n_filled for sequence in sequences] == [10] * 15 + [3]


def test_chunk_begins_anew_with_its_own_bos() -> None:
    first, second = list(pack([_document(0, 12)], _config(8), 10**9))
    assert first.token_ids.tolist() == [BOS, *range(100, 107)]
    assert second.token_ids.tolist() == [BOS, *range(107, 112), PAD, PAD]
    assert (second.char_start[0], second.char_end[0]) == (21, 21)


def test_budget_ends_after_the_sequence_that_reaches_it() -> None:
    documents = [_document(i, 20) for i in range(50)]
    for budget, n_expected in ((1, 1), (10, 1), (11, 2), (100, 10)):
        assert len(list(pack(documents, _config(10, bos="none"), budget))) == n_expected
    assert list(pack(documents, _config(10), 0)) == []


def test_documents_beyond_the_budget_are_not_even_asked_for() -> None:
    asked: list[int] = []

    def documents() -> "list[TokenisedDocument]":
        for i in range(1000):
            asked.append(i)
            yield _document(i, 20)

    list(pack(documents(), _config(10, bos="none"), 100))
    assert len(asked) <= 6


@pytest.mark.parametrize(("bos", "expected"), [("none", [0, 1, 1]), ("drop", [0, 0, 1]), ("keep", [1, 0, 1])])
def test_first_text_token_can_be_left_out(bos: str, expected: list[int]) -> None:
    config = PackingConfig(8, "per_document", bos, True, BOS, None, PAD)  # type: ignore[arg-type]
    (sequence,) = list(pack([_document(0, 6)], config, 10**9))
    assert sequence.valid[:3].astype(int).tolist() == expected
