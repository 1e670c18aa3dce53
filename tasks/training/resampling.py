"""Restarts dead latents at tokens that the dictionary reconstructs badly (Bricken et al. 2023).

Legend: N tokens, D d_in, E d_out, L d_sae, R dead latents.

From a sample of train tokens one is drawn for each dead latent with probability proportional to the square
of its loss. Its direction becomes the decoder row, at unit norm, and the encoder of the latent, at a fifth
of the mean norm of the live ones. The bias becomes 0, and Adam's state of the latent is reset.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.training_state import TrainingState

SAMPLE_TOKENS = 8_192
_ENCODER_SHARE = 0.2
"""Norm of a new encoder row relative to the live ones, as in Anthropic's resampling (2023)."""
_TOKENS_AT_ONCE = 1_024


def is_due(state: TrainingState, every: int | None, batch_tokens: int, decay_share: float) -> bool:
    """Whether the step just done crossed a multiple of ``every``; never once the learning rate falls."""
    if every is None or state.progress >= 1 - decay_share:
        return False
    return state.n_tokens // every > (state.n_tokens - batch_tokens) // every


@torch.no_grad()
def resample(
    dictionary: Dictionary, optimiser: Optimizer, x_ND: Tensor, y_NE: Tensor, state: TrainingState
) -> int:
    """Restart every dead latent; return how many there were.

    Args:
        dictionary: A dictionary with a vector per latent in ``W_enc`` (D, L), ``b_enc`` and ``W_dec`` (L, E).
        optimiser: Adam on its parameters.
        x_ND: Sampled inputs in the units of the training.
        y_NE: Their targets.
        state: Says which latents are dead; the restarted ones count as alive from now on.
    """
    dead_R = state.dead.nonzero().squeeze(1)
    alive_L = ~state.dead
    if len(dead_R) == 0 or not bool(alive_L.any()):
        return 0
    chosen_R = _draw(_squared_losses(dictionary, x_ND, y_NE), len(dead_R), state.generator).to(x_ND.device)
    inputs_RD = dictionary.centred(x_ND[chosen_R])
    targets_RE = y_NE[chosen_R] - dictionary.b_dec
    encoder_norm = dictionary.W_enc[:, alive_L].norm(dim=0).mean()
    dictionary.W_enc[:, dead_R] = _unit(inputs_RD).T * (_ENCODER_SHARE * encoder_norm)
    dictionary.W_dec[dead_R] = _unit(targets_RE)
    dictionary.b_enc[dead_R] = 0
    for parameter, index in (
        (dictionary.W_enc, (slice(None), dead_R)),
        (dictionary.W_dec, (dead_R,)),
        (dictionary.b_enc, (dead_R,)),
    ):
        for moment in optimiser.state.get(parameter, {}).values():
            if moment.ndim:
                moment[index] = 0
    state.tokens_since_fired[dead_R] = 0
    return len(dead_R)


def _squared_losses(dictionary: Dictionary, x_ND: Tensor, y_NE: Tensor) -> Tensor:
    """The square of each token's squared error: (N,) float64."""
    errors = [
        (y_ME - dictionary(x_MD)).double().square().sum(dim=1)
        for x_MD, y_ME in zip(
            torch.split(x_ND, _TOKENS_AT_ONCE), torch.split(y_NE, _TOKENS_AT_ONCE), strict=True
        )
    ]
    return torch.cat(errors).square()


def _draw(weights_N: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` tokens drawn by weight, without repeats if there are enough."""
    weights_N = weights_N.cpu()
    n_possible = int((weights_N > 0).sum())
    if n_possible == 0:
        weights_N, n_possible = torch.ones_like(weights_N), len(weights_N)
    return torch.multinomial(weights_N, n, replacement=n > n_possible, generator=generator)


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=1)
