"""Documents explain or score, never both."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.mining.split import SPLITS, example_split, split_codes


@given(st.text(), st.floats(0.01, 0.99))
def test_a_larger_share_moves_documents_one_way_only(document_id: str, share: float) -> None:
    small, large = example_split(document_id, share / 2), example_split(document_id, share)
    assert (small, large) in {("explain", "explain"), ("score", "explain"), ("score", "score")}
    assert SPLITS[split_codes([document_id], share)[0]] == large


def test_known_splits_stay_what_they_are() -> None:
    """Changing them would let old explanations meet the documents they were made from."""
    names = ("ast", "json", "os.path", "doc/17")
    assert [example_split(name) for name in names] == ["score", "explain", "score", "score"]


def test_the_share_is_kept() -> None:
    names = [f"document {i}" for i in range(20_000)]
    for share in (0.2, 0.5, 0.9):
        assert abs(np.mean(split_codes(names, share) == 0) - share) < 0.015
