"""The bounded selection equals a sort, however its input was cut up."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.mining.selection import BoundedSelection, balanced_take, rank_in_group, take_balanced

ENTRIES = st.lists(st.tuples(st.integers(0, 4), st.integers(-6, 6)), max_size=60)


@given(ENTRIES, st.integers(1, 5), st.integers(1, 13), st.randoms(use_true_random=False))
def test_it_keeps_the_smallest_whatever_the_chunks(entries, n, chunk, random) -> None:
    rows = [(slot, float(key), position) for position, (slot, key) in enumerate(entries)]
    random.shuffle(rows)
    selection = BoundedSelection(5, n)
    for begin in range(0, len(rows), chunk):
        slots, keys, positions = (
            np.array(column) for column in zip(*rows[begin : begin + chunk], strict=True)
        )
        selection.offer(slots, keys, positions, positions.astype(np.float32))
    for slot in range(5):
        expected = sorted((key, position) for s, key, position in rows if s == slot)[:n]
        held = selection.positions_Sn[slot] >= 0
        found = list(zip(selection.keys_Sn[slot][held], selection.positions_Sn[slot][held], strict=True))
        assert found == expected
        assert (selection.values_Sn[slot][held] == selection.positions_Sn[slot][held]).all()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 30))
def test_balanced_take_fills_up_and_prefers_halves(n_explain: int, n_score: int, n_wanted: int) -> None:
    explain, score = balanced_take(np.array([n_explain]), np.array([n_score]), n_wanted)
    assert 0 <= explain[0] <= n_explain
    assert 0 <= score[0] <= n_score
    assert explain[0] + score[0] == min(n_wanted, n_explain + n_score)
    if min(n_explain, n_score) >= n_wanted:
        assert abs(explain[0] - score[0]) <= 1
    if n_wanted >= 2 and n_explain and n_score:
        assert explain[0] >= 1
        assert score[0] >= 1


def test_take_balanced_takes_the_lowest_priorities_of_each_split() -> None:
    groups = np.array([7, 7, 7, 7, 7, 3, 3])
    splits = np.array([0, 0, 0, 1, 1, 1, 1])
    priorities = np.array([0.5, 0.1, 0.3, 0.9, 0.2, 0.4, 0.6])
    assert set(take_balanced(groups, splits, priorities, 3)) == {1, 2, 4, 5, 6}
    assert set(take_balanced(groups, splits, priorities, 1)) == {1, 5}


@given(st.lists(st.integers(0, 5)))
def test_rank_in_group_counts_from_each_begin(values: list[int]) -> None:
    groups = np.sort(np.array(values, dtype=np.int64))
    expected = [int((groups[:i] == group).sum()) for i, group in enumerate(groups)]
    assert rank_in_group(groups).tolist() == expected
