"""Linear probes: logistic regression, several targets at once, and the selection of features for sparse ones.

Shapes: N examples, F features, C targets.

A probe minimises the mean weighted cross-entropy plus ``|w|^2 / (2 N)`` (the strength of C = 1 in common
libraries) over standardised features; positives and negatives of every target have equal weight. Everything
is float64 and deterministic.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
_MAX_ITERATIONS = 300
"""A convex problem with a penalty: L-BFGS converges well before."""


@dataclass(frozen=True)
class Probe:
    """``x W + b`` per target; above zero means yes."""

    weights: NDArray[np.float64]
    """(F, C), in the units of the features."""
    bias: NDArray[np.float64]
    """(C,)."""

    def predict(self, x_NF: Floats) -> Bools:
        """Which examples have which target: (N, C)."""
        positive: Bools = np.asarray(x_NF, np.float64) @ self.weights + self.bias > 0
        return positive


def fit_probe(x_NF: Floats, y_NC: Bools) -> Probe:
    """Fit one logistic regression per column of ``y_NC``; every column needs both answers."""
    x = np.asarray(x_NF, np.float64)
    mean_F, scale_F = x.mean(axis=0), x.std(axis=0)
    scale_F[scale_F < 1e-12] = 1.0
    x = (x - mean_F) / scale_F
    n, n_targets = len(x), y_NC.shape[1]
    sign_NC = np.where(y_NC, 1.0, -1.0)
    share_C = y_NC.mean(axis=0)
    weight_NC = np.where(y_NC, 0.5 / share_C, 0.5 / (1 - share_C)) / n

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(-1, n_targets)
        margin_NC = sign_NC * (x @ parameters[:-1] + parameters[-1])
        value = float((weight_NC * np.logaddexp(0, -margin_NC)).sum())
        value += float(np.square(parameters[:-1]).sum()) / (2 * n)
        slope_NC = -weight_NC * sign_NC * _sigmoid(-margin_NC)
        gradient = np.vstack([x.T @ slope_NC + parameters[:-1] / n, slope_NC.sum(axis=0)])
        return value, gradient.ravel()

    start = np.zeros((x.shape[1] + 1) * n_targets)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS})
    parameters = found.x.reshape(-1, n_targets)
    weights = parameters[:-1] / scale_F[:, None]
    return Probe(weights, parameters[-1] - mean_F @ weights)


def balanced_accuracy(predicted_N: Bools, truth_N: Bools) -> float:
    """Mean of the accuracies on positives and on negatives; 0.5 is chance."""
    return float((predicted_N[truth_N].mean() + (~predicted_N[~truth_N]).mean()) / 2)


def f1_score(predicted_N: Bools, truth_N: Bools) -> float:
    """Harmonic mean of precision and recall; 0 if there are no true positives."""
    hits = float((predicted_N & truth_N).sum())
    return 2 * hits / float(predicted_N.sum() + truth_N.sum()) if hits else 0.0


def largest_mean_differences(
    sums_FC: Floats, counts_C: Floats, total_F: Floats, n: int, *, signed: bool = False
) -> NDArray[Any]:
    """Features by decreasing size of (mean of the positives - mean of the negatives): indices (F, C).

    Args:
        sums_FC: Sums of every feature over the positives of every target.
        counts_C: Positives of every target.
        total_F: Sums over all examples.
        n: Number of examples.
        signed: Whether a feature must be larger on the positives, and not merely different.
    """
    difference_FC = sums_FC / counts_C - (total_F[:, None] - sums_FC) / (n - counts_C)
    return np.argsort(-(difference_FC if signed else np.abs(difference_FC)), axis=0, kind="stable")


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    half: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * x))
    return half
