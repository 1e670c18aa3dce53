"""What a loss reads and returns at each step of a training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class TrainingState:
    """The state of a training that a loss may use besides the batch."""

    n_steps: int
    """Steps of the whole training."""
    dead_after_tokens: int
    """Tokens without firing after which a latent counts as dead."""
    total_variance: float
    """Mean over tokens of the squared distance of the targets to their mean, in the units of the batch."""
    mean_norm: float
    """Mean Euclidean norm of the inputs, in the units of the batch: sqrt(d_in) under dataset_rms."""
    target_norm: float
    """The same of the targets."""
    tokens_since_fired: Tensor
    """Tokens since each latent was last active (int64)."""
    generator: torch.Generator
    """Randomness of the training; its state is part of a checkpoint."""
    input_mean: Tensor | None = None
    """Mean of a sample of inputs (D,), in the units of the batch; available only in `before_training`."""
    step: int = 0
    """Steps done."""
    n_tokens: int = 0
    """Tokens seen."""
    memory: dict[str, Tensor] = field(default_factory=dict)
    """State of the method between steps, such as running rates; saved in checkpoints, not in weights."""

    @property
    def dead(self) -> Tensor:
        """Which latents count as dead: (L,) bool."""
        return self.tokens_since_fired >= self.dead_after_tokens

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        return self.step / self.n_steps

    def ramp(self, steps: int, share: float) -> float:
        """Linear rise from 0 to 1 within ``steps``, at most within ``share`` of the training."""
        length = min(steps, int(share * self.n_steps))
        return min((self.step + 1) / length, 1.0) if length else 1.0

    def count(self, fired_L: Tensor, n_tokens: int) -> None:
        """Record one batch: add its tokens, reset the latents that fired."""
        self.tokens_since_fired += n_tokens
        self.tokens_since_fired[fired_L] = 0
        self.n_tokens += n_tokens
        self.step += 1


@dataclass
class TrainingStep:
    """The results of one batch."""

    loss: Tensor
    """The quantity to minimise (scalar with a graph)."""
    sse: Tensor
    """Mean over tokens of the squared reconstruction error, summed over dimensions (scalar)."""
    l0: Tensor
    """Mean number of active latents per token (scalar)."""
    fired: Tensor
    """Which latents were active (bool)."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Further terms for the log, by metric name (scalars)."""
