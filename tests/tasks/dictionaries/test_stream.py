"""The data stream: every token once per epoch, in an order that a cursor continues exactly."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.stream import Counts, Cursor, TokenStream, read_valid, sample_rows, sample_tokens


class NumberedActivations:
    """Token j of sequence i is the number 100 i + j; the first token of each sequence is not valid."""

    d_in, context_length, n_sequences = 1, 10, 23

    def __init__(self) -> None:
        rows = np.arange(self.n_sequences)[:, None] * 100 + np.arange(self.context_length)
        self.values = rows[:, :, None].astype(np.float32)
        valid = np.ones((self.n_sequences, self.context_length), dtype=bool)
        valid[:, 0] = False
        self.tokens = SimpleNamespace(valid=valid)

    def sequence_rows(self, split: str) -> Any:
        return np.arange(20) if split == "train" else np.arange(20, 23)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def make_stream(activations: Any, **changes: Any) -> TokenStream:
    fields: dict[str, Any] = {"seed": 1, "batch_tokens": 7, "buffer_tokens": 60, "block_sequences": 2}
    return TokenStream(activations, **{**fields, **changes})


def test_an_epoch_holds_every_valid_train_token_once() -> None:
    stream = make_stream(NumberedActivations(), batch_tokens=9)
    for _ in range(2):
        seen = Counter(int(value) for _ in range(20) for value in stream.next_batch())
        assert set(seen) == {100 * i + j for i in range(20) for j in range(1, 10)}
        assert set(seen.values()) == {1}
    assert stream.cursor == Cursor(epoch=2)
    assert stream.counts == Counts(n_read=360)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = [make_stream(NumberedActivations(), batch_tokens=180, seed=seed) for seed in (1, 1, 2)]
    orders = [stream.next_batch().flatten().tolist() for stream in first]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert first[0].next_batch().flatten().tolist() != orders[0]


def test_a_batch_mixes_sequences_from_far_apart() -> None:
    sequences = make_stream(NumberedActivations(), batch_tokens=30).next_batch().flatten() // 100
    assert len(sequences.unique()) >= 5


def test_parts_of_a_batch_are_those_of_the_whole_also_across_buffers() -> None:
    whole, first, second = (make_stream(NumberedActivations(), batch_tokens=50) for _ in range(3))
    for _ in range(12):  # of 54 tokens a buffer, so that batches begin in one and end in the next
        batch_N1 = whole.next_batch()
        assert torch.equal(first.next_batch(slice(0, 17)), batch_N1[:17])
        assert torch.equal(second.next_batch(slice(17, 50)), batch_N1[17:])
        assert whole.cursor == first.cursor == second.cursor


@pytest.mark.parametrize("n_before", range(0, 60, 7))
def test_a_cursor_continues_exactly(n_before: int) -> None:
    activations = NumberedActivations()
    stream = make_stream(activations)
    for _ in range(n_before):
        stream.next_batch()
    resumed = make_stream(activations, cursor=stream.cursor)
    resumed.counts = Counts(stream.counts.n_read, stream.counts.n_nonfinite)
    resumed.resume()
    for _ in range(60):
        assert torch.equal(stream.next_batch(), resumed.next_batch())
    assert resumed.counts == stream.counts


def test_tokens_that_are_not_finite_are_left_out_and_counted() -> None:
    activations = NumberedActivations()
    activations.values = np.tile(activations.values, (1, 100, 1))
    activations.tokens.valid = np.tile(activations.tokens.valid, (1, 100))
    activations.values[3, 5] = np.nan
    counts = Counts()
    x_ND = read_valid(activations, np.arange(20), counts)
    assert len(x_ND) == 20 * 900 - 1
    assert torch.isfinite(x_ND).all()
    assert counts == Counts(20 * 900, 1)
    activations.values[4, 1:30] = np.inf
    with pytest.raises(UserError, match="28 of 18000 activations are NaN or infinite"):
        read_valid(activations, np.arange(20))


def test_long_reads_are_pieced_together() -> None:
    activations = NumberedActivations()
    activations.values = np.tile(activations.values, (1, 1000, 1))
    activations.tokens.valid = np.tile(activations.tokens.valid, (1, 1000))
    activations.values[17, 5] = np.inf
    rows = np.array([17, 3, 4, 11])
    expected = torch.from_numpy(activations.values[rows][activations.tokens.valid[rows]])
    assert torch.equal(read_valid(activations, rows), expected[torch.isfinite(expected).all(dim=1)])


def test_a_set_without_train_tokens_is_refused() -> None:
    activations = NumberedActivations()
    activations.tokens.valid[:] = False
    with pytest.raises(UserError, match="no valid train tokens"):
        make_stream(activations)


def test_samples_are_spread_over_the_split() -> None:
    assert sample_rows(np.arange(100), 5).tolist() == [0, 25, 50, 74, 99]
    assert sample_rows(np.arange(3), 5).tolist() == [0, 1, 2]
    sample = sample_tokens(NumberedActivations(), "eval", 20)
    assert sample.dtype == torch.float32
    assert sorted({int(value) // 100 for value in sample}) == [20, 22]
