"""The n best of each slot, held in flat arrays and merged chunk by chunk.

Shapes: S slots, n kept per slot, E offered entries.
"""

import numpy as np


def rank_in_group(groups: np.ndarray) -> np.ndarray:
    """Position of each element within its run, for ``groups`` sorted so that equals are adjacent."""
    n = len(groups)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    index = np.arange(n)
    is_first = np.ones(n, dtype=bool)
    is_first[1:] = groups[1:] != groups[:-1]
    return index - np.maximum.accumulate(np.where(is_first, index, 0))


def balanced_take(n_explain: np.ndarray, n_score: np.ndarray, n_wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """How many to take of either split: half of each, filled up from the other where one is short."""
    half = n_wanted - n_wanted // 2
    from_explain = np.minimum(n_explain, np.maximum(half, n_wanted - n_score))
    from_score = np.minimum(n_score, n_wanted - from_explain)
    return from_explain, from_score


def take_balanced(
    groups: np.ndarray, splits: np.ndarray, priorities: np.ndarray, n_wanted: int
) -> np.ndarray:
    """Indices of ``n_wanted`` elements per group, lowest priority first, half of each split."""
    order = np.lexsort((priorities, splits, groups))
    group, split = groups[order], splits[order]
    rank = rank_in_group(group * 2 + split)
    _, number = np.unique(group, return_inverse=True)
    n_score = np.bincount(number, weights=split).astype(np.int64)
    n_explain = np.bincount(number) - n_score
    from_explain, from_score = balanced_take(n_explain, n_score, n_wanted)
    limit = np.where(split == 0, from_explain[number], from_score[number])
    kept: np.ndarray = order[rank < limit]
    return kept


class BoundedSelection:
    """Keeps for each slot the ``n`` entries with the smallest keys; ties go to the lower position.

    What is kept does not depend on how the entries were divided into chunks or on their order.
    """

    def __init__(self, n_slots: int, n: int) -> None:
        self.n = n
        self.keys_Sn = np.full((n_slots, n), np.inf)
        self.positions_Sn = np.full((n_slots, n), -1, dtype=np.int64)
        self.values_Sn = np.zeros((n_slots, n), dtype=np.float32)

    def offer(
        self, slots_E: np.ndarray, keys_E: np.ndarray, positions_E: np.ndarray, values_E: np.ndarray
    ) -> None:
        """Merge new entries in; a position is offered to a slot at most once."""
        if self.n == 0:
            return
        hopeful = keys_E <= self.keys_Sn[slots_E, -1]
        if not hopeful.any():
            return
        slots, keys = slots_E[hopeful], keys_E[hopeful]
        positions, values = positions_E[hopeful], values_E[hopeful]
        touched = np.unique(slots)
        held = self.positions_Sn[touched] >= 0
        slots = np.concatenate([np.repeat(touched, held.sum(axis=1)), slots])
        keys = np.concatenate([self.keys_Sn[touched][held], keys])
        positions = np.concatenate([self.positions_Sn[touched][held], positions])
        values = np.concatenate([self.values_Sn[touched][held], values])
        order = np.lexsort((positions, keys, slots))
        slots = slots[order]
        rank = rank_in_group(slots)
        kept = rank < self.n
        where, order = (slots[kept], rank[kept]), order[kept]
        self.keys_Sn[where] = keys[order]
        self.positions_Sn[where] = positions[order]
        self.values_Sn[where] = values[order]
