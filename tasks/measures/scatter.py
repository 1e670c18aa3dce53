"""Random directions distributed like the rows of a dictionary: angular central Gaussian of their scatter.

Decoder rows are not spread evenly over the sphere: they share the strong directions of the activations. Two
unrelated sets are therefore much closer than isotropic directions. A direction ``z / |z|`` with
z ~ N(0, S) is angular central Gaussian (Tyler 1987). S is chosen so that its second moment is that of the
rows, E[z z^T / |z|^2] = mean of u u^T over unit rows u. Both share their eigenvectors, and the eigenvalues of
S are found by fixed-point iteration on

    E[l_k z_k^2 / sum_j l_j z_j^2] = integral_0^inf l_k / (1 + 2 l_k s) prod_j (1 + 2 l_j s)^(-1/2) ds.

Unlike Tyler's estimate this needs no more rows than dimensions.

Shapes: A rows to test, L rows that define the scatter, D width.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr
from torch import Tensor

Floats = npt.NDArray[np.float64]

_LOG_STEPS = np.linspace(-12.0, 12.0, 241)
_ITERATIONS = 100
"""The fixed point changes by less than rounding long before."""
_SMALLEST = 1e-12
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Scatter:
    """Eigenvalues (D,), which sum to one, and eigenvectors (D, D), in columns, of S."""

    values: Floats
    vectors: Floats

    def draw(self, n: int, seed: int) -> Tensor:
        """``n`` random unit rows (n, D) of this scatter, float32."""
        rng = np.random.default_rng((seed, n, len(self.values)))
        rows_ND = (rng.standard_normal((n, len(self.values))) * np.sqrt(self.values)) @ self.vectors.T
        rows_ND /= np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-30)
        return torch.from_numpy(rows_ND).float()

    def exceeds(self, rows_AD: Floats, cosine_A: Floats) -> Floats:
        """Probability that a random direction has a larger cosine with each unit row: (A,).

        P(a . z > c |z|) is half of P(z^T (a a^T - c^2) z > 0), a quadratic form in Gaussians whose tail is
        that of Lugannani and Rice (1980) in the form of Kuonen (1999). It is up to a fifth too large in
        the cases tested, against sampling and the closed form of isotropic directions.
        """
        parts = [
            self._tail(rows_AD[start : start + _ROWS_AT_ONCE], cosine_A[start : start + _ROWS_AT_ONCE])
            for start in range(0, len(rows_AD), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def _tail(self, rows_AD: Floats, cosine_A: Floats) -> Floats:
        scale = len(self.values)
        values_D = np.maximum(self.values * scale, _SMALLEST)
        weights_AD = (rows_AD @ self.vectors) ** 2 * values_D
        form = _Form(np.clip(np.abs(cosine_A), 1e-6, 1.0 - 1e-9) ** 2, values_D, weights_AD)
        tail_A = 0.5 * form.upper_tail()
        return np.where(cosine_A >= 0, tail_A, 1.0 - tail_A)


def scatter_of(rows_LD: Tensor) -> Scatter:
    """The scatter of the directions of some rows; rows of norm zero are left out."""
    norms_L = rows_LD.norm(dim=1)
    unit_LD = (rows_LD[norms_L > 1e-12] / norms_L[norms_L > 1e-12].unsqueeze(1)).double().cpu().numpy()
    if not len(unit_LD):
        d = rows_LD.shape[1]
        return Scatter(np.full(d, 1.0 / d), np.eye(d))
    moments_D, vectors = np.linalg.eigh(unit_LD.T @ unit_LD / len(unit_LD))
    moments_D = np.maximum(moments_D, _SMALLEST)
    moments_D /= moments_D.sum()
    values_D = moments_D.copy()
    for _ in range(_ITERATIONS):
        factor_D = moments_D / np.maximum(_second_moments(values_D), _SMALLEST)
        values_D = values_D * factor_D
        values_D /= values_D.sum()
        if np.abs(factor_D - 1.0).max() < 1e-6:
            break
    return Scatter(values_D, vectors)


def _second_moments(values_D: Floats) -> Floats:
    """E[l_k z_k^2 / sum_j l_j z_j^2] for standard Gaussians z: (D,)."""
    steps_S = np.exp(_LOG_STEPS)
    spread_SD = 1.0 + 2.0 * np.outer(steps_S, values_D)
    weight_S = np.exp(-0.5 * np.log(spread_SD).sum(axis=1)) * steps_S * (_LOG_STEPS[1] - _LOG_STEPS[0])
    moments: Floats = (values_D / spread_SD * weight_S[:, None]).sum(axis=0)
    return moments


@dataclass(frozen=True, slots=True)
class _Form:
    """Cumulants of Q = z^T (v v^T - c^2 diag(l)) z, z standard Gaussian, with weights v^2.

    K(t) = -1/2 sum_k log(1 + 2 t c^2 l_k) - 1/2 log(1 - 2 t g(t)), g(t) = sum_k v_k^2 / (1 + 2 t c^2 l_k).
    """

    squared_A: Floats
    values_D: Floats
    weights_AD: Floats

    def upper_tail(self) -> Floats:
        """P(Q > 0): (A,)."""
        t_A = self._saddle()
        a_AD = self.squared_A[:, None] * self.values_D
        den_AD, g_A, h_A = self._parts(t_A)
        g1_A = -(2 * a_AD * self.weights_AD / den_AD**2).sum(axis=1)
        g2_A = (8 * a_AD**2 * self.weights_AD / den_AD**3).sum(axis=1)
        first_A = g_A + t_A * g1_A
        k_A = -0.5 * np.log(den_AD).sum(axis=1) - 0.5 * np.log(h_A)
        k2_A = (2 * a_AD**2 / den_AD**2).sum(axis=1)
        k2_A += (2 * g1_A + t_A * g2_A) / h_A + 2 * first_A**2 / h_A**2
        w_A = np.sign(t_A) * np.sqrt(np.maximum(-2 * k_A, 0.0))
        v_A = t_A * np.sqrt(np.maximum(k2_A, 0.0))
        away = (np.abs(w_A) > 1e-4) & (v_A * w_A > 0)
        safe_A = np.where(away, w_A, 1.0)
        r_A = np.where(away, safe_A + np.log(np.where(away, v_A / safe_A, 1.0)) / safe_A, 0.0)
        tail: Floats = ndtr(-r_A)
        return tail

    def _parts(self, t_A: Floats) -> tuple[Floats, Floats, Floats]:
        den_AD = 1.0 + 2.0 * (t_A * self.squared_A)[:, None] * self.values_D
        g_A = (self.weights_AD / den_AD).sum(axis=1)
        return den_AD, g_A, 1.0 - 2.0 * t_A * g_A

    def _slope(self, t_A: Floats) -> Floats:
        den_AD, g_A, h_A = self._parts(t_A)
        a_AD = self.squared_A[:, None] * self.values_D
        g1_A = -(2 * a_AD * self.weights_AD / den_AD**2).sum(axis=1)
        slope: Floats = -(a_AD / den_AD).sum(axis=1) + (g_A + t_A * g1_A) / h_A
        return slope

    def _saddle(self) -> Floats:
        """Where the slope of K is zero, by bisection within the interval on which K is finite."""
        low_A, high_A = np.zeros(len(self.squared_A)), np.full(len(self.squared_A), 1e-3)
        for _ in range(80):
            inside = self._parts(high_A)[2] > 0
            if not inside.any():
                break
            low_A, high_A = np.where(inside, high_A, low_A), np.where(inside, 2 * high_A, high_A)
        for _ in range(50):
            middle_A = (low_A + high_A) / 2
            inside = self._parts(middle_A)[2] > 0
            low_A, high_A = np.where(inside, middle_A, low_A), np.where(inside, high_A, middle_A)
        high_A = low_A
        low_A = -(1.0 - 1e-9) / (2.0 * self.squared_A * self.values_D.max())
        for _ in range(60):
            middle_A = (low_A + high_A) / 2
            rising = self._slope(middle_A) > 0
            low_A, high_A = np.where(rising, low_A, middle_A), np.where(rising, middle_A, high_A)
        saddle: Floats = (low_A + high_A) / 2
        return saddle
