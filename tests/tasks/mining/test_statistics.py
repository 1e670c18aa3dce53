"""Firing statistics against numpy on the raw values."""

import numpy as np
import pytest

from tasks.mining.codes import Firings
from tasks.mining.statistics import QUANTILES, FiringStatistics, bin_edges, bin_of


def _firings(values_per_feature: list[np.ndarray]) -> Firings:
    features = np.repeat(np.arange(len(values_per_feature)), [len(v) for v in values_per_feature])
    values = np.concatenate(values_per_feature).astype(np.float32)
    return Firings(features.astype(np.int32), np.arange(len(values)), values)


def test_bins_hold_their_values() -> None:
    values = np.geomspace(2.0**-13, 2.0**17, 5_000, dtype=np.float32)
    edges, bins = bin_edges(), bin_of(values)
    assert (edges[bins] <= values).all()
    assert (values < edges[bins + 1]).all()
    assert (np.diff(edges) / edges[:-1]).max() <= 0.125 + 1e-12
    assert bin_of(np.array([1e-30, 1e30], dtype=np.float32)).tolist() == [0, len(edges) - 2]


def test_statistics_equal_numpys_in_any_number_of_parts() -> None:
    rng = np.random.default_rng(0)
    parts = [[rng.lognormal(i - 2, 1, 400) for i in range(4)] + [np.zeros(0)] for _ in range(3)]
    statistics = FiringStatistics(5)
    for part in parts:
        statistics.add(_firings(part))
    for feature in range(4):
        values = np.concatenate([part[feature] for part in parts]).astype(np.float32)
        assert statistics.n_tokens_L[feature] == len(values)
        assert statistics.max_L[feature] == values.max()
        assert statistics.sum_L[feature] == pytest.approx(values.sum(dtype=np.float64))
        expected = np.quantile(values, QUANTILES)
        assert np.abs(statistics.quantiles()[feature] / expected - 1).max() < 0.06
        histogram = statistics.histogram(feature)
        assert histogram.counts.tolist() == np.histogram(values, histogram.edges)[0].tolist()
        assert histogram.counts[0] > 0
        assert histogram.counts[-1] > 0


def test_a_silent_feature_has_no_quantiles_and_no_bins() -> None:
    statistics = FiringStatistics(2)
    statistics.add(_firings([np.full(7, 3.0), np.zeros(0)]))
    assert np.isnan(statistics.quantiles()[1]).all()
    assert len(statistics.histogram(1).counts) == 0
    assert statistics.histogram(0).counts.tolist() == [7]
    assert (statistics.quantiles()[0] <= 3.0).all(), "equal activations: never above the largest"


def test_values_beyond_the_bins_are_counted_in_the_outermost() -> None:
    statistics = FiringStatistics(1)
    statistics.add(_firings([np.array([1e-9, 3e7])]))
    histogram = statistics.histogram(0)
    assert histogram.counts.sum() == 2
    assert histogram.edges[0] == 0.0
    assert histogram.edges[-1] >= 3e7
