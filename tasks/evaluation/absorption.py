"""Feature absorption and splitting, from codes and a probe direction.

Definitions of SAEBench (arXiv 2503.09532, after Chanin et al. 2024, arXiv 2409.14507), for the tokens that
have the label and that the probe classifies correctly. The projection of a latent is ``z_i (W_dec_i . p)``
with the unit probe direction p, that of the activation ``(x - b_dec) . p``: what the latents should add up
to.

- fraction: 0 if the main latents give the complete projection, or if the (at most three) largest other
  latents with cosine >= 0.1 give less than 0.4 of it; 1 if the main latents give nothing; else
  ``a / (a + main)`` with a = what those latents give, at most the missing part.
- full: no main latent is active, the latent with the largest projection has cosine >= 0.025 and gives at
  least 0.4 of the activation's projection.
- main latents: those with the largest difference of means, one more as long as it raises the F1 score of a
  probe on them by more than 0.03; their number is the number of latents the label is split into.

Shapes: N tokens, L latents, D width, M main latents.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.evaluation.probe import Bools, Floats, f1_score, fit_probe

FRACTION_COSINE, FULL_COSINE = 0.1, 0.025
LEAST_SHARE = 0.4
"""As in SAEBench, like the cosines above."""
N_ABSORBING = 3
"""As in SAEBench: the three latents with the largest projection may absorb."""
F1_JUMP = 0.03
"""As in SAEBench: a further latent is a split if it gains over 0.03 of F1."""


@dataclass(frozen=True)
class Absorption:
    """For every token: the share of the projection that others carry, and whether one carries all of it."""

    fraction_N: NDArray[np.float64]
    full_N: Bools


def absorption(codes_NL: Floats, W_dec_LD: Floats, x_ND: Floats, probe_D: Floats, main_M: Any) -> Absorption:
    """Absorption of a label on tokens that have it.

    Args:
        codes_NL: Latent activations.
        W_dec_LD: Directions.
        x_ND: Activations minus the decoder bias.
        probe_D: Direction of the label.
        main_M: Indices of the main latents.
    """
    unit_D = np.asarray(probe_D, np.float64) / np.linalg.norm(probe_D)
    along_L = np.asarray(W_dec_LD, np.float64) @ unit_D
    cosine_L = along_L / np.maximum(np.linalg.norm(W_dec_LD, axis=1), 1e-12)
    projection_NL = codes_NL * along_L
    whole_N = np.asarray(x_ND, np.float64) @ unit_D
    main_N = projection_NL[:, main_M].sum(axis=1)
    others_NL = projection_NL.copy()
    others_NL[:, main_M] = 0
    others_NL[:, cosine_L < FRACTION_COSINE] = 0
    n_absorbing = min(N_ABSORBING, others_NL.shape[1])
    absorbing_N = np.sort(np.maximum(others_NL, 0), axis=1)[:, -n_absorbing:].sum(axis=1)
    return Absorption(
        _fraction(whole_N, main_N, absorbing_N), _full(codes_NL, projection_NL, cosine_L, whole_N, main_M)
    )


def _fraction(whole_N: Floats, main_N: Floats, absorbing_N: Floats) -> NDArray[np.float64]:
    taken_N = np.minimum(absorbing_N, whole_N - main_N)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_N = np.clip(taken_N / (taken_N + main_N), 0, 1)
    share_N = np.where(main_N <= 0, 1.0, share_N)
    none_N = (whole_N <= 0) | (main_N >= whole_N) | (absorbing_N < LEAST_SHARE * whole_N)
    result: NDArray[np.float64] = np.where(none_N, 0.0, share_N)
    return result


def _full(codes_NL: Floats, projection_NL: Floats, cosine_L: Floats, whole_N: Floats, main_M: Any) -> Bools:
    top_N = projection_NL.argmax(axis=1)
    largest_N = projection_NL[np.arange(len(top_N)), top_N]
    silent_N = (codes_NL[:, main_M] <= 0).all(axis=1)
    full_N: Bools = (
        silent_N & (cosine_L[top_N] >= FULL_COSINE) & (whole_N > 0) & (largest_N >= LEAST_SHARE * whole_N)
    )
    return full_N


def main_latents(train_NM: Floats, y_N: Bools, test_NM: Floats, test_y_N: Bools) -> tuple[int, list[Bools]]:
    """Number of candidates into which a label is split, and the answers of probes on the first 1, 2, ...

    Args:
        train_NM: Codes of the candidate latents on train tokens, in order of choice.
        y_N: Which train tokens have the label.
        test_NM: The same latents on the tokens the F1 score is taken on.
        test_y_N: Which of those have it.
    """
    scores: list[float] = []
    answers: list[Bools] = []
    for k in range(1, train_NM.shape[1] + 1):
        probe = fit_probe(train_NM[:, :k], y_N[:, None])
        answers.append(probe.predict(test_NM[:, :k])[:, 0])
        scores.append(f1_score(answers[-1], test_y_N))
        if k > 1 and scores[-1] - scores[-2] <= F1_JUMP:
            return k - 1, answers
    return len(scores), answers
