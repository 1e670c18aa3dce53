"""The pure measures: sequence errors, spectra, probes, matches of directions, the planted world."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.evaluation.probe import balanced_accuracy, f1_score, fit_probe, largest_mean_differences
from tasks.evaluation.recovery import best_cosines, unit_rows
from tasks.evaluation.suites.density_spectrum import spectrum
from tasks.evaluation.suites.sequence_error import SequenceErrors
from tasks.evaluation.synthetic import SyntheticActivations, SyntheticConfig


def test_sequence_errors_are_averaged_by_sequence_first() -> None:
    errors = SequenceErrors()
    errors.add(torch.tensor([[1.0, -1.0]]), np.array([4]), np.array([0]))
    errors.add(torch.tensor([[0.0, 2.0], [2.0, 0.0], [0.0, 0.0]]), np.array([7, 7, 7]), np.array([0, 1, 1]))
    assert errors.value == pytest.approx(1.1666666667)  # pooled over tokens it would be 1.25
    assert np.log2(errors.value) == pytest.approx(0.2223924213)
    assert (errors.n_tokens, errors.n_sequences) == (4, 2)
    above_G, below_G = errors.by_document.sums_GC.T
    assert below_G == pytest.approx([1 + 1 / 3, 2 / 3]), "a sequence counts for its documents by share"
    assert above_G.sum() / below_G.sum() == pytest.approx(errors.value)
    assert SequenceErrors().value is None
    assert SequenceErrors().interval() is None


def test_spectrum_bins_are_half_decades() -> None:
    shares = spectrum(torch.tensor([0, 1, 100, 31, 32, 1000]), 1000)
    assert shares["unseen"] == pytest.approx(1 / 6)
    assert shares["log10 -3.0"] == pytest.approx(1 / 6)
    assert shares["log10 -2.0"] == pytest.approx(1 / 6), "31 of 1000 is below 10^-1.5"
    assert shares["log10 -1.5"] == pytest.approx(1 / 6)
    assert shares["log10 -1.0"] == pytest.approx(1 / 6)
    assert shares["log10 -0.5"] == pytest.approx(1 / 6), "the last bin holds density 1"


def test_a_probe_minimises_its_loss() -> None:
    """At the minimum the gradient vanishes: checked by differences on standardised features."""
    random = np.random.default_rng(0)
    x = random.standard_normal((300, 3)) * [1.0, 5.0, 0.1] + 2.0
    y = x[:, :1] + 0.2 * x[:, 1:2] + random.standard_normal((300, 1)) > 2.4
    probe = fit_probe(x, y)
    scale = x.std(axis=0)

    def loss(weights: np.ndarray, bias: float) -> float:
        margin = np.where(y[:, 0], 1, -1) * (x @ weights + bias)
        weight = np.where(y[:, 0], 0.5 / y.mean(), 0.5 / (1 - y.mean())) / len(y)
        return float((weight * np.log1p(np.exp(-margin))).sum() + np.square(weights * scale).sum() / 600)

    best = loss(probe.weights[:, 0], probe.bias[0])
    for step in np.eye(3) * 1e-2 / scale:
        for sign in (-1, 1):
            moved = probe.weights[:, 0] + sign * step
            # Moving a weight about the mean keeps the margins centred, so the bias moves along.
            assert loss(moved, probe.bias[0] - sign * float(step @ x.mean(axis=0))) > best
    assert balanced_accuracy(probe.predict(x)[:, 0], y[:, 0]) > 0.75


def test_scores_by_hand() -> None:
    predicted, truth = np.array([1, 1, 0, 0, 0], bool), np.array([1, 0, 1, 0, 0], bool)
    assert f1_score(predicted, truth) == pytest.approx(0.5)
    assert balanced_accuracy(predicted, truth) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert f1_score(np.zeros(5, bool), truth) == 0
    x = np.array([[0.0, 3.0, 1.0], [0.0, 1.0, 1.0], [4.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    y = np.array([[1.0], [1.0], [0.0], [0.0]])  # differences of means: -2, 2, 0
    order = largest_mean_differences(x.T @ y, y.sum(axis=0), x.sum(axis=0), 4)
    assert order[:, 0].tolist() == [0, 1, 2]
    signed = largest_mean_differences(x.T @ y, y.sum(axis=0), x.sum(axis=0), 4, signed=True)
    assert signed[:, 0].tolist() == [1, 2, 0]


def test_the_best_cosine_of_random_directions_is_near_its_expectation() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1000, 64, generator=generator) for _ in range(2))
    a, b = unit_rows(a), unit_rows(b)
    mean = best_cosines(a, b)[0].mean()
    assert float(mean) == pytest.approx(np.sqrt(2 * np.log(1000) / 64), rel=0.2)
    assert float(best_cosines(a, torch.cat([b, a]))[0].mean()) == pytest.approx(1, abs=1e-5)


def test_the_planted_world_is_as_configured() -> None:
    config = SyntheticConfig(n_tokens=64_000, noise=0.0, seed=3)
    world = SyntheticActivations(config)
    active = np.concatenate([world.active("train"), world.active("eval")])
    assert active.sum(axis=1).mean() == pytest.approx(config.mean_active, rel=0.05)
    np.testing.assert_allclose(active.mean(axis=0), world.frequencies_F, atol=0.01)
    for child in np.flatnonzero(world.parent_F >= 0):
        assert not (active[:, child] & ~active[:, world.parent_F[child]]).any(), "a child without its parent"
    first = np.flatnonzero(world.parent_F == 0)
    assert active[:, first].sum(axis=1).max() == 1, "children of one parent exclude each other"
    share = active[active[:, 0]][:, first].any(axis=1).mean()
    assert share == pytest.approx(config.child_share, abs=0.03)
    correlated = np.flatnonzero(world.kinds_F == "correlated")
    independent = np.flatnonzero(world.kinds_F == "independent")
    together = np.corrcoef(active[:, correlated[:4]].T)[np.triu_indices(4, 1)]
    apart = np.corrcoef(active[:, independent[:4]].T)[np.triu_indices(4, 1)]
    assert together.min() > 0.1 > 0.02 > abs(apart).max()
    x = world.read(world.sequence_rows("eval")).reshape(-1, config.d_in)
    residual = x - world.active("eval") @ world.directions_FD
    assert np.linalg.matrix_rank(world.directions_FD) == config.d_in
    assert np.abs(residual[world.active("eval").sum(axis=1) == 0]).max() < 1e-6, (
        "no feature, no noise: nothing"
    )


def test_kinds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than n_features = 10"):
        SyntheticConfig(n_features=10)
