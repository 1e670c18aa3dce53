"""Linear probes for many targets at once, fitted by sums over the examples.

A probe is the least-squares fit of a 0/1 target to standardised features with a ridge penalty, which has the
direction of Fisher's discriminant. All targets share one matrix, so a probe of every feature of a dictionary
costs little more than one. Only the order of the scores counts, as AUROC reads it.

Shapes: N examples, D features, C targets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
RIDGE = 1e-3
"""Penalty in units of the variance of a standardised feature: it matters only where features are copies."""


@dataclass
class ProbeSums:
    """Sums of the features and of their products with the targets, over batches of examples."""

    n: int = 0
    x_D: Any = 0.0
    xx_DD: Any = 0.0
    y_C: Any = 0.0
    xy_DC: Any = 0.0

    def add(self, x_ND: Floats, y_NC: Any) -> None:
        """Take a batch of examples; the targets are 0 and 1, dense or as a sparse matrix."""
        x_ND = np.asarray(x_ND, np.float64)
        self.n += len(x_ND)
        self.x_D = self.x_D + x_ND.sum(axis=0)
        self.xx_DD = self.xx_DD + x_ND.T @ x_ND
        self.y_C = self.y_C + np.asarray(y_NC.sum(axis=0), np.float64).ravel()
        self.xy_DC = self.xy_DC + np.asarray(y_NC.T @ x_ND).T

    def weights(self) -> NDArray[np.float64]:
        """The directions (D, C), in the units of the features; a constant feature has weight 0."""
        mean_D = self.x_D / self.n
        covariance_DD = self.xx_DD / self.n - np.outer(mean_D, mean_D)
        variance_D = np.maximum(np.diag(covariance_DD), 0.0)
        is_constant_D = variance_D <= 1e-12 * np.maximum(np.diag(self.xx_DD) / self.n, 1e-300)
        scale_D = np.where(is_constant_D, 1.0, np.sqrt(variance_D))
        standard_DD = covariance_DD / np.outer(scale_D, scale_D)
        target_DC = (self.xy_DC / self.n - np.outer(mean_D, self.y_C / self.n)) / scale_D[:, None]
        standard_DD[is_constant_D, :] = standard_DD[:, is_constant_D] = 0.0
        target_DC[is_constant_D] = 0.0
        solved_DC = np.linalg.solve(standard_DD + RIDGE * np.eye(len(mean_D)), target_DC)
        directions: NDArray[np.float64] = solved_DC / scale_D[:, None]
        return directions


def aurocs(scores_NC: Floats, y_NC: Bools) -> NDArray[np.float64]:
    """Probability that a positive scores above a negative, of every target: (C,); ties count half.

    The Mann-Whitney statistic (Hanley and McNeil 1982); NaN for a target that lacks one answer.
    """
    result = np.full(y_NC.shape[1], np.nan)
    columns = zip(np.ascontiguousarray(scores_NC.T), np.ascontiguousarray(y_NC.T), strict=True)
    for c, (scores_N, is_positive_N) in enumerate(columns):
        positive, negative = np.sort(scores_N[is_positive_N]), np.sort(scores_N[~is_positive_N])
        if len(positive) and len(negative):
            below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
            result[c] = below.sum() / (2 * len(positive) * len(negative))
    return result
