"""One dictionary on two sets of one text, against dense sums, planted and shuffled."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csc_array, csr_array
from scipy.stats import false_discovery_control

from catalog.errors import UserError
from tasks.common.bootstrap import ratio_interval
from tasks.observing.config import ModelsComparison
from tasks.observing.group_shifts import Shifted
from tasks.observing.model_shifts import mean_shift, model_shifts
from tasks.observing.paired_sums import StreamShifts, drawn_documents, read_pairs
from tasks.observing.sign_flips import sign_flip_p
from tasks.observing.top_contexts import TopContexts, shared_share
from tests.tasks.observing.sets import SetInMemory, identity_dictionary, packed

N, T, L = 40, 25, 16
CONFIG = ModelsComparison(a="base", b="tuned")
NONE = TopContexts(*(np.zeros(0, dtype=np.int64) for _ in range(4)))
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "matching.json").read_text())["G31_shift"]


def stream(seed: int = 0) -> np.ndarray:
    """(N, T, L): features that fire on 2 % to 60 % of tokens, and are negative elsewhere."""
    rng = np.random.default_rng(seed)
    fires = rng.random((N, T, L)) < np.linspace(0.02, 0.6, L)
    return np.where(fires, rng.exponential(1, (N, T, L)), -rng.random((N, T, L))).astype(np.float32)


def compared(
    a: SetInMemory, b: SetInMemory, config: ModelsComparison = CONFIG, contexts=(NONE, NONE)
) -> Shifted:
    return model_shifts(identity_dictionary(L), (a, b), contexts, config, follows_stream=True)


def test_figures_equal_those_of_dense_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few documents, and sequences of side b in another order."""
    monkeypatch.setattr("tasks.observing.paired_sums._SEGMENTS_AT_ONCE", 90)
    x_a, x_b = stream(), np.where(np.random.default_rng(9).random((N, T, L)) < 0.3, stream(1), stream())
    order = np.random.default_rng(3).permutation(N)
    found = compared(SetInMemory(x_a), SetInMemory(x_b[order], packed(N, T, order)))
    rows = found.table.to_pylist()
    assert [row["feature_index"] for row in rows] == list(range(L))
    a, b = (np.maximum(x, 0).astype(np.float64).reshape(-1, L) for x in (x_a, x_b))
    shift = (x_b - x_a).reshape(-1, L).astype(np.float64)
    for f, row in enumerate(rows):
        assert row["density_a"] == pytest.approx((a[:, f] > 0).mean())
        assert row["density_b"] == pytest.approx((b[:, f] > 0).mean())
        assert row["effect"] == pytest.approx((b[:, f] - a[:, f]).mean(), abs=1e-9)
        assert row["ci_low"] < row["effect"] < row["ci_high"]
        assert row["pearson"] == pytest.approx(np.corrcoef(a[:, f], b[:, f])[0, 1])
        both, either = (a[:, f] > 0) & (b[:, f] > 0), (a[:, f] > 0) | (b[:, f] > 0)
        assert row["jaccard"] == pytest.approx(both.sum() / either.sum())
        moves = shift[a[:, f] > 0]
        assert row["projected_shift"] == pytest.approx(moves[:, f].mean(), rel=1e-4)
        moves = moves[np.linalg.norm(moves, axis=1) > 0]
        cosines = (
            np.corrcoef(np.zeros(1)) if len(moves) < 2 else moves / np.linalg.norm(moves, axis=1)[:, None]
        )
        pairs = (cosines @ cosines.T)[np.triu_indices(len(moves), 1)]
        assert row["consistency"] == pytest.approx(pairs.mean(), abs=1e-5)
        assert row["n_firing_a"] == (np.maximum(x_a[:, :, f], 0).sum(axis=1) > 0).sum()
        assert row["overlap_top"] is None
    q = false_discovery_control([row["p_value"] for row in rows])
    np.testing.assert_allclose([row["q_value"] for row in rows], q)
    assert (found.facts["n_segments"], found.facts["n_documents"]) == (N * T, N)
    assert found.facts["l0_a"] == pytest.approx((a > 0).sum(axis=1).mean())


def test_the_same_weights_differ_in_nothing() -> None:
    x = stream()
    contexts = TopContexts(
        *(np.repeat(np.arange(L), 3), np.tile([0, 1, 2], L), *np.full((2, 3 * L), [[0], [9]]))
    )
    found = compared(SetInMemory(x), SetInMemory(x.copy()), contexts=(contexts, contexts))
    for row in found.table.to_pylist():
        assert (row["pearson"], row["jaccard"], row["overlap_top"]) == (1.0, 1.0, 1.0)
        assert (row["effect"], row["ci_low"], row["ci_high"], row["projected_shift"]) == (0, 0, 0, 0)
        assert (row["p_value"], row["q_value"], row["consistency"]) == (1.0, 1.0, None)
        assert row["density_a"] == row["density_b"]
    assert found.facts["quantiles"]["pearson"] == [1.0] * 5
    assert found.facts["n_found"] == 0


def test_a_changed_feature_comes_first_and_its_shift_is_consistent() -> None:
    x_a = stream()
    x_b = x_a + np.random.default_rng(1).normal(0, 0.02, x_a.shape).astype(np.float32)
    x_b[:, :, 5] = np.where(x_a[:, :, 5] > 0, x_a[:, :, 5] + 1.0, x_a[:, :, 5])
    rows = sorted(compared(SetInMemory(x_a), SetInMemory(x_b)).table.to_pylist(), key=lambda r: r["p_value"])
    assert rows[0]["feature_index"] == 5
    assert rows[0]["q_value"] < 0.01
    assert rows[0]["ci_low"] > 0
    assert rows[0]["projected_shift"] == pytest.approx(1.0, abs=0.05)
    assert rows[0]["consistency"] > 0.9
    assert max(abs(row["consistency"]) for row in rows[1:] if row["feature_index"] < 3) < 0.5


def test_sides_swapped_at_random_differ_in_nothing() -> None:
    """Documents exchange their sides, so that nothing belongs to a side; 20 times."""
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        pair = np.stack([stream(100), stream(101)])
        swapped = np.where(rng.random(N)[:, None, None] < 0.5, pair, pair[::-1])
        facts = compared(SetInMemory(swapped[0]), SetInMemory(swapped[1])).facts
        shares.append(facts["n_found"] / facts["n_features"])
    assert np.mean(shares) <= 0.05


def test_tokens_of_two_tokenizers_are_aligned_by_characters() -> None:
    """Side b has a token for every two of side a; both fire in the same places."""
    x_b = np.maximum(stream()[:, :12], 0)
    x_a = np.repeat(x_b, 2, axis=1)
    wide = SetInMemory(x_b, packed(N, 12, width=2))
    found = compared(SetInMemory(x_a, packed(N, 24)), wide)
    assert found.facts["n_segments"] == N * 12
    assert set(found.table["jaccard"].to_pylist()) == {1.0}


def test_only_complete_documents_are_read_up_to_the_limit() -> None:
    config = ModelsComparison(a="base", b="tuned", max_segments=110)
    facts = compared(SetInMemory(stream()), SetInMemory(stream()), config).facts
    assert (facts["n_segments"], facts["n_documents"]) == (100, 4)


def test_documents_are_drawn_from_the_whole_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.observing.paired_sums._SEQUENCES_AT_ONCE", 7)
    drawn = [drawn_documents(packed(N, T), 8 * T + 3, seed) for seed in range(30)]
    assert {int(one.sum()) for one in drawn} == {8}
    assert np.sum(drawn, axis=0).min() > 0
    assert drawn_documents(packed(N, T), 3, 0).sum() == 1
    wide = compared(SetInMemory(stream()), SetInMemory(stream(), packed(N, T, np.arange(N) + N // 2)))
    assert wide.facts["n_documents"] == N // 2


def test_sets_without_common_text_are_refused() -> None:
    other = SetInMemory(stream(), packed(N, T, np.arange(N) + N))
    with pytest.raises(UserError, match="share no token"):
        compared(SetInMemory(stream()), other)


def test_golden_vector_of_a_shift() -> None:
    base, tuned = (np.array(GOLDEN[name], dtype=np.float32) for name in ("base", "tuned"))
    shifts = StreamShifts(1, 2)
    shifts.add(csr_array(np.ones((2, 1))), base, tuned)
    assert (shifts.shift_LD[0] / shifts.n_L[0]).tolist() == GOLDEN["mean_shift"]
    assert shifts.consistencies().tolist() == [GOLDEN["consistency"]]
    direction = np.array([[3.0, 4.0]], dtype=np.float32)
    assert shifts.projections(direction)[0] == pytest.approx((3 * 0.5 + 4 * 1.0) / 5)


def test_no_shift_of_a_stream_that_is_not_written() -> None:
    sums, shifts = read_pairs(
        identity_dictionary(L), (SetInMemory(stream()), SetInMemory(stream())), CONFIG, follows_stream=False
    )
    assert shifts is None
    assert sums.n_segments == 1_000


def test_sign_flips_agree_with_all_flips() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.4, 1, (10, 6))
    d[:, 5] = [1.0, 1.0, *[0.0] * 8]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1).T
    exact = (np.abs(signs @ d) >= np.abs(d.sum(axis=0)) * (1 - 1e-9)).mean(axis=0)
    found = sign_flip_p(csc_array(d), 20_000, 0)
    np.testing.assert_allclose(found, exact, atol=0.012)
    assert found[5] == pytest.approx(0.5, abs=0.02)


def test_the_bound_of_hoeffding_takes_over_where_no_flip_reaches() -> None:
    same = csc_array(np.ones((60, 1)))
    assert sign_flip_p(same, 99, 0)[0] == pytest.approx(2 * np.exp(-30))
    few = csc_array(np.ones((8, 1)))
    assert sign_flip_p(few, 99, 0)[0] >= 2 / 2**8


def test_the_interval_of_a_mean_shift_agrees_with_replicates() -> None:
    rng = np.random.default_rng(4)
    m = rng.integers(20, 200, 300)
    d = rng.normal(0.3, 0.5, (300, 1)) * m[:, None]
    effect, half = mean_shift(csc_array(d), m)
    replicates = ratio_interval(d[:, 0], m.astype(float))
    assert replicates.low == pytest.approx((effect - half)[0], abs=0.1 * half[0])
    assert replicates.high == pytest.approx((effect + half)[0], abs=0.1 * half[0])
    assert np.isnan(mean_shift(csc_array(d[:4]), m[:4])[1]).all()


def test_contexts_are_shared_where_their_characters_overlap() -> None:
    a = TopContexts(*np.array([[0, 0, 0, 1, 2], [5, 5, 6, 5, 5], [0, 50, 0, 0, 0], [32, 80, 32, 32, 32]]))
    b = TopContexts(*np.array([[0, 0, 1, 1], [5, 7, 5, 5], [20, 0, 40, 10], [52, 32, 60, 30]]))
    share = shared_share(a, b, 4)
    np.testing.assert_allclose(share, [1 / 3, 0.5, 0, np.nan])
    np.testing.assert_allclose(shared_share(b, a, 4), share)
