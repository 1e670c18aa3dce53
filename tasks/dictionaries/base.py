"""What a dictionary is: an encoder that maps activations to sparse latents and a decoder back.

Legend: N tokens, D d_in, L d_sae, K kept per token. ``W_enc`` (D, L), ``W_dec`` (L, D): the rows of
``W_dec`` are the directions of the latents, kept at unit norm.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from pydantic import BeforeValidator, SerializeAsAny
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from tasks.common.registry import Registry
from tasks.dictionaries.config import DictionaryConfig


@dataclass
class TrainingState:
    """What a loss may know about the training besides the batch."""

    n_steps: int
    """Steps of the whole training."""
    dead_after_tokens: int
    """Silence in tokens after which a latent counts as dead."""
    total_variance: float
    """Mean over tokens of the squared distance to the mean, in the units of the batch."""
    mean_norm: float
    """Mean Euclidean norm of the inputs, in the units of the batch: sqrt(d_in) under dataset_rms."""
    tokens_since_fired: Tensor
    """Tokens since each latent was last active (int64)."""
    generator: torch.Generator
    """Randomness of the training; its state is part of a checkpoint."""
    step: int = 0
    """Steps done."""
    n_tokens: int = 0
    """Tokens seen."""

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
        """Take note of one batch: add its tokens, reset the latents that fired."""
        self.tokens_since_fired += n_tokens
        self.tokens_since_fired[fired_L] = 0
        self.n_tokens += n_tokens
        self.step += 1


@dataclass
class TrainingStep:
    """What one batch gave."""

    loss: Tensor
    """What is minimised (scalar with a graph)."""
    sse: Tensor
    """Mean over tokens of the squared reconstruction error, summed over dimensions (scalar)."""
    l0: Tensor
    """Mean number of active latents per token (scalar)."""
    fired: Tensor
    """Which latents were active (bool)."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Further terms worth logging, by metric name (scalars)."""


class Dictionary(nn.Module, ABC):
    """Base of all architectures; a subclass says how it encodes and what it minimises."""

    Config: ClassVar[type[DictionaryConfig]]
    unit_type: ClassVar[str] = "latent"

    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter

    def __init__(self, config: DictionaryConfig, d_in: int) -> None:
        super().__init__()
        config.check_width(d_in)
        self.config = config
        self.d_in, self.d_sae = d_in, config.n_latents(d_in)
        generator = torch.Generator().manual_seed(config.seed)
        directions_LD = torch.randn(self.d_sae, d_in, generator=generator)
        directions_LD /= directions_LD.norm(dim=1, keepdim=True)
        self.W_dec = nn.Parameter(directions_LD)
        # Stored with one latent after the other, so that gradients per latent are contiguous.
        self.W_enc = nn.Parameter(directions_LD.clone().T)
        self.b_enc = nn.Parameter(torch.zeros(self.d_sae))
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    # --- inference ---

    def pre_acts(self, x_ND: Tensor) -> Tensor:
        """``(x - b_dec) W_enc + b_enc``: (N, L)."""
        return torch.addmm(self.b_enc, x_ND - self.b_dec, self.W_enc)

    @abstractmethod
    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L), never negative, each token by itself: the rule of inference."""

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The same as values and latent indices, both (N, K), largest first.

        K is the largest number of active latents of any token; the rest is padded with value 0.
        """
        acts_NL = self.encode(x_ND)
        k = int((acts_NL > 0).sum(dim=1).max()) if len(acts_NL) else 0
        values_NK, indices_NK = torch.topk(acts_NL, max(k, 1), dim=1)
        return values_NK, indices_NK

    def decode(self, latent_acts_NL: Tensor) -> Tensor:
        """``latent_acts W_dec + b_dec``: (N, D)."""
        return torch.addmm(self.b_dec, latent_acts_NL, self.W_dec)

    def decode_sparse(self, values_NK: Tensor, indices_NK: Tensor) -> Tensor:
        """The same from values and indices: (N, D)."""
        return self.b_dec + embedding_bag(indices_NK, self.W_dec, mode="sum", per_sample_weights=values_NK)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Reconstruction of the input: (N, D)."""
        return self.decode(self.encode(x_ND))

    # --- training ---

    @abstractmethod
    def training_loss(self, x_ND: Tensor, state: TrainingState) -> TrainingStep:
        """Loss and statistics of one batch."""

    def before_training(self, state: TrainingState) -> None:
        """Hook before the first step, for example to bring a threshold into the units of the batch."""

    def after_training(self, sample_ND: Tensor) -> dict[str, float]:
        """Hook after the last step with a sample of train tokens; what it returns is logged."""
        return {}

    def after_step(self, state: TrainingState) -> None:
        """Hook after each optimiser step, for example to keep a threshold in its range."""

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Take the component along each direction out of its gradient: it would only change the norm."""
        if self.W_dec.grad is not None:
            along_L1 = (self.W_dec.grad * self.W_dec).sum(dim=1, keepdim=True)
            self.W_dec.grad.addcmul_(along_L1, self.W_dec, value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring every direction back to unit norm."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Turn a dictionary of ``scale * x`` into one of ``x``; directions keep their unit norm.

        With f' = f / scale: W_enc and W_dec stay, biases and thresholds are divided by the scale.
        """
        for name in self.scaled_with_input():
            getattr(self, name).div_(scale)

    def scaled_with_input(self) -> tuple[str, ...]:
        """Parameters and buffers in units of the input: biases, thresholds."""
        return ("b_enc", "b_dec")


ARCHITECTURES: Registry[Dictionary] = Registry("architecture", "tasks.dictionaries.architectures")

AnyDictionaryConfig = Annotated[
    SerializeAsAny[DictionaryConfig], BeforeValidator(ARCHITECTURES.resolve_config("architecture"))
]
"""Field type of a pipeline: a mapping becomes the configuration of the architecture that it names."""


def dictionary_config(value: object) -> DictionaryConfig:
    """A mapping such as ``{architecture: topk, k: 32, ...}`` as the Config of the class it names."""
    config = ARCHITECTURES.resolve_config("architecture")(value)
    if not isinstance(config, DictionaryConfig):
        raise ValueError("a dictionary configuration is a mapping with the field 'architecture'")
    return config


def build_dictionary(config: DictionaryConfig, d_in: int) -> Dictionary:
    """A new dictionary with its initial weights, a function of ``config.seed`` alone."""
    return ARCHITECTURES[config.architecture](config, d_in)
