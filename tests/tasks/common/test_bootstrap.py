"""Coverage of the document bootstrap where tokens of one document are alike."""

import numpy as np
import pytest

from tasks.common.bootstrap import FEWEST_DOCUMENTS, document_draws, percentiles, ratio_interval


def simulated(rng: np.random.Generator, n_documents: int, alike: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sizes of documents of unequal length whose tokens correlate by ``alike``; the mean is 0."""
    size_G = rng.integers(20, 200, n_documents)
    shared_G = rng.standard_normal(n_documents) * np.sqrt(alike)
    own_G = rng.standard_normal(n_documents) * np.sqrt((1 - alike) * size_G)
    return shared_G * size_G + own_G, size_G.astype(float)


@pytest.mark.parametrize(
    ("n_documents", "alike"), [(10, 0.0), (10, 0.02), (40, 0.02), (40, 0.2), (150, 0.02)]
)
def test_nineteen_of_twenty_intervals_hold_the_truth(n_documents: int, alike: float) -> None:
    rng = np.random.default_rng(0)
    held = []
    for number in range(250):
        low, high, n = ratio_interval(*simulated(rng, n_documents, alike), seed=number)
        assert n == n_documents
        assert low is not None
        assert high is not None
        held.append(low <= 0 <= high)
    assert 0.9 <= np.mean(held) <= 0.985


def test_tokens_taken_as_units_would_be_too_sure() -> None:
    """The design effect at these sizes is about 3: an interval over tokens holds far too rarely."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(250):
        sums_G, size_G = simulated(rng, 40, 0.02)
        held.append(abs(sums_G.sum() / size_G.sum()) <= 1.96 / np.sqrt(size_G.sum()))
    assert np.mean(held) < 0.85


def test_few_documents_have_no_interval_and_a_wider_one_than_many() -> None:
    none = ratio_interval(np.ones(FEWEST_DOCUMENTS - 1), np.ones(FEWEST_DOCUMENTS - 1))
    assert none.low is None
    assert none.high is None
    assert none.n_documents == FEWEST_DOCUMENTS - 1
    assert percentiles(6)[0] < percentiles(30)[0] < percentiles(10_000)[0] == pytest.approx(0.025, abs=1e-3)


def test_documents_without_weight_do_not_count() -> None:
    assert ratio_interval(np.arange(8.0), np.array([1.0] * 6 + [0.0] * 2)).n_documents == 6


def test_draws_are_of_whole_documents() -> None:
    draws = document_draws(7)
    assert (draws.sum(axis=1) == 7).all()
    assert draws.mean(axis=0) == pytest.approx(np.ones(7), abs=0.1)
