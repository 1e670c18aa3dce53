"""The tanh penalty of cross-layer transcoders, token by token and latent by latent."""

import math
from typing import Any

import pytest
import torch

from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths

N_LAYERS, WIDTH, N_TOKENS, PER_LAYER = 2, 3, 7, 4
MEAN_NORM, TARGET_NORM = 2.0, 3.0
SETTINGS = {
    "tanh_coefficient": 0.2,
    "tanh_steepness": 4.0,
    "shortfall_coefficient": 0.5,
    "sparsity_warmup_steps": 0,
    "bandwidth": 0.05,
}


def make(**changes: Any) -> Any:
    fields = {"architecture": "jumprelu_cross_layer_transcoder", "d_sae": N_LAYERS * PER_LAYER, "n_tokens": 1}
    reads, writes = (
        [f"blocks.{layer}.{kind}" for layer in range(N_LAYERS)] for kind in ("mlp_in", "mlp_out")
    )
    config = dictionary_config({**fields, "reads": reads, "writes": writes, **SETTINGS, **changes})
    dictionary: Any = build_dictionary(config, Widths((WIDTH,) * N_LAYERS, (WIDTH,) * N_LAYERS))
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        dictionary.b_enc.copy_(torch.randn(dictionary.d_sae, generator=random) / 3)
        dictionary.b_dec.copy_(torch.randn(N_LAYERS * WIDTH, generator=random))
        dictionary.threshold.copy_(torch.rand(dictionary.d_sae, generator=random) / 2)
    return dictionary.double()


def make_state(dictionary: Any) -> TrainingState:
    silent = torch.tensor([0, 200, 0, 0, 0, 0, 200, 200])
    return TrainingState(10, 100, 1.0, MEAN_NORM, TARGET_NORM, silent, torch.Generator())


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(4)
    shape = (N_TOKENS, N_LAYERS * WIDTH)
    return torch.randn(shape, generator=random).double(), torch.randn(shape, generator=random).double()


def plain_loss(dictionary: Any, x_ND: torch.Tensor, y_NE: torch.Tensor, dead: list[int]) -> float:
    """The loss written down as in the paper, in plain numbers."""
    W_enc, W_dec, threshold = (getattr(dictionary, name).tolist() for name in ("W_enc", "W_dec", "threshold"))
    b_enc, b_dec = dictionary.b_enc.tolist(), dictionary.b_dec.tolist()
    steepness = 4.0 * math.sqrt(N_LAYERS * WIDTH) / MEAN_NORM
    total = 0.0
    for x, y in zip(x_ND.tolist(), y_NE.tolist(), strict=True):
        output, penalty, lacking = list(b_dec), 0.0, 0.0
        for latent in range(N_LAYERS * PER_LAYER):
            layer = latent // PER_LAYER
            z = b_enc[latent] + sum(x[layer * WIDTH + i] * W_enc[i][latent] for i in range(WIDTH))
            f = z if z > threshold[latent] else 0.0
            norm = math.sqrt(sum(w * w for w in W_dec[latent]))
            penalty += math.tanh(steepness * norm * f)
            lacking += max(threshold[latent] - z, 0.0) if latent in dead else 0.0
            for place in range(layer * WIDTH, N_LAYERS * WIDTH):
                output[place] += f * W_dec[latent][place]
        error = sum((a - b) ** 2 for a, b in zip(y, output, strict=True))
        total += error / TARGET_NORM**2 + 0.2 * penalty + 0.5 * lacking / MEAN_NORM
    return total / N_TOKENS


def test_the_tanh_loss_is_that_of_circuit_tracing() -> None:
    dictionary = make()
    x_ND, y_NE = tokens()
    step = dictionary.training_loss(x_ND, y_NE, make_state(dictionary))
    assert 0 < float(step.l0) < N_LAYERS * PER_LAYER
    assert float(step.loss) == pytest.approx(plain_loss(dictionary, x_ND, y_NE, [1, 6, 7]), rel=1e-6)
    assert float(step.parts["shortfall"]) > 0


def test_encoder_gradients_match_finite_differences_and_thresholds_have_their_kernel() -> None:
    dictionary = make()
    x_ND, y_NE = tokens()
    state = make_state(dictionary)
    dictionary.training_loss(x_ND, y_NE, state).loss.backward()
    direction = torch.randn(dictionary.W_enc.shape, generator=torch.Generator().manual_seed(5)).double()
    expected = float((dictionary.W_enc.grad * direction).sum())
    losses = []
    for sign in (1, -1):
        with torch.no_grad():
            dictionary.W_enc.add_(sign * 1e-7 * direction)
            losses.append(float(dictionary.training_loss(x_ND, y_NE, state).loss))
            dictionary.W_enc.sub_(sign * 1e-7 * direction)
    assert (losses[0] - losses[1]) / 2e-7 == pytest.approx(expected, rel=1e-4)

    near = make(bandwidth=1e3, shortfall_coefficient=0.0, tanh_coefficient=1e-9)
    near.training_loss(x_ND, y_NE, state).loss.backward()
    codes_NL = near.encode(x_ND)
    grad_NE = 2 * (near.decode(codes_NL, x_ND) - y_NE) / (TARGET_NORM**2 * N_TOKENS)
    wanted_L = -(near.threshold / (1e3 * MEAN_NORM)) * (grad_NE @ near.W_dec.T).sum(dim=0)
    torch.testing.assert_close(near.threshold.grad, wanted_L.detach(), rtol=1e-4, atol=1e-9)
