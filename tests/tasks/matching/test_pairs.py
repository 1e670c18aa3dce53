"""Partners, mutual best and verdicts from score matrices and codes made by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from tasks.matching.matchers.activation_correlation import verdicts
from tasks.matching.pairs import Pairs, best_pairs

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "matching.json").read_text())


def blocks(scores: np.ndarray, size: int) -> list[tuple[slice, np.ndarray]]:
    return [(slice(i, min(i + size, len(scores))), scores[i : i + size]) for i in range(0, len(scores), size)]


def test_golden_vector_of_mutual_best_and_mean_maximum() -> None:
    case = GOLDEN["G13_hungarian"]
    scores = np.array(case["sim"])
    pairs = best_pairs(blocks(scores, 2), 3, n_partners=1)
    assert pairs.b.tolist() == case["argmax_A_to_B"]
    assert [[a, b] for a, b, m in zip(pairs.a, pairs.b, pairs.mutual, strict=True) if m] == case[
        "mutual_best"
    ]
    assert pairs.score.mean() == pytest.approx(case["mmcs_A_to_B"])


@pytest.mark.parametrize("size", [1, 7, 50])
def test_blocks_do_not_change_the_pairs(size: int) -> None:
    scores = np.random.default_rng(0).normal(size=(50, 30))
    whole, parts = (best_pairs(blocks(scores, s), 30, 3) for s in (50, size))
    for name in ("a", "b", "score", "rank", "mutual"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.mutual.sum() == sum(scores[:, scores[a].argmax()].argmax() == a for a in range(50))


def test_margin_is_the_lead_over_the_next_partner() -> None:
    pairs = best_pairs([(slice(0, 1), np.array([[0.9, 0.5, 0.7]]))], 3, n_partners=3)
    np.testing.assert_allclose(pairs.margin, [0.2, 0.2, np.nan])


def test_a_single_partner_has_no_margin() -> None:
    pairs = best_pairs([(slice(0, 2), np.array([[0.9], [0.2]]))], 1, n_partners=3)
    assert pairs.a.tolist() == [0, 1]
    assert np.isnan(pairs.margin).all()
    assert pairs.mutual.tolist() == [True, False]


def pairs_of(*listed: tuple[int, int], mutual: tuple[bool, ...]) -> Pairs:
    a, b = (np.array(column) for column in zip(*listed, strict=True))
    rank = np.array(
        [listed[:i].count(pair) + sum(p[0] == pair[0] for p in listed[:i]) for i, pair in enumerate(listed)]
    )
    return Pairs(a, b, np.ones(len(a)), rank, np.zeros(len(a)), np.array(mutual))


def codes(*columns: str) -> csr_array:
    return csr_array(np.array([[float(c) for c in column] for column in columns]).T)


def test_two_parts_that_cover_a_feature_are_a_split_and_its_inverse_a_merger() -> None:
    whole, parts = codes("1111000000"), codes("1100000000", "0011000000", "0000000011")
    split = pairs_of((0, 0), (0, 1), mutual=(True, False))
    assert verdicts(split, np.zeros(2, bool), whole, parts).tolist() == ["split", "split"]
    merged = pairs_of((0, 0), (1, 0), (2, 0), mutual=(True, False, False))
    said = verdicts(merged, np.zeros(3, bool), parts, whole).tolist()
    assert said == ["merged", "merged", "unmatched"]


def test_a_feature_inside_one_broader_feature_is_absorbed() -> None:
    narrow, broad = codes("1100000000"), codes("1111110000")
    one = pairs_of((0, 0), mutual=(True,))
    assert verdicts(one, np.array([False]), narrow, broad).tolist() == ["absorbed"]
    assert verdicts(one, np.array([True]), narrow, broad).tolist() == ["same"]
    assert verdicts(one, np.array([False]), broad, narrow).tolist() == ["unmatched"]
