"""The learning rate over a training."""

import math

from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.training_state import TrainingState


def learning_rate(config: GradientConfig, state: TrainingState, d_in: int) -> float:
    """Linear warm-up, plateau, fall to zero over the last ``decay_share``: linear or half a cosine."""
    n_decay = config.decay_share * config.n_steps
    left = config.n_steps - state.step
    share = min(left / n_decay, 1.0) if n_decay else 1.0
    if config.decay == "cosine":
        share = 0.5 - 0.5 * math.cos(math.pi * share)
    return config.base_lr(d_in) * state.ramp(config.warmup_steps, share=0.05) * share
