"""The base class of dictionaries: an encoder that maps activations to sparse latents, and a decoder.

Legend: N tokens, D d_in, E d_out, L d_sae, K kept per token. ``W_enc`` (D, L), ``W_dec`` (L, E): the rows of
``W_dec`` are the directions of the latents, kept at unit norm. A dictionary may read several hookpoints and
write several; their activations are then concatenated in D and in E. One that reconstructs its input has the
same hookpoints on both sides, and E = D.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import AfterValidator, BeforeValidator, SerializeAsAny
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from catalog.errors import UserError
from catalog.schemas import Origin, UnitType
from tasks.common.registry import Registry
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.kernels.products import product
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.sparse_codes import top_per_token
from tasks.dictionaries.token_norm import normalise_tokens, restore_tokens
from tasks.dictionaries.training_state import TrainingState, TrainingStep
from tasks.dictionaries.widths import Widths

HowTrained = Literal["steps", "fit", "end_to_end", "imported"]
Join = Literal["sum", "max"]


class GradientTraits(NamedTuple):
    """How an architecture behaves in a training by gradient steps."""

    can_resample: bool = False
    """Whether ``resample_every_tokens`` makes sense: dead latents have no loss of their own."""
    exact_decoder_gradient: bool = True
    """Whether ``W_dec`` gets the gradient of the complete loss; false if a term freezes the decoder."""
    learns_decoder: bool = True
    """Whether training changes ``W_dec``; a control may keep its random directions."""
    joined: Mapping[str, Join] = {}
    """Entries of ``TrainingState.memory`` that hold one step as one process saw it, and how to join them:
    if several processes share a batch, `after_step` finds those of the complete batch."""


class Dictionary(nn.Module, ABC):
    """Base of all architectures; a subclass defines how it encodes and what it minimises."""

    Config: ClassVar[type[DictionaryConfig]]
    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""
    unit_type: ClassVar[UnitType] = "latent"
    origin: ClassVar[Origin] = "trained"
    how_trained: ClassVar[HowTrained] = "steps"
    """How it is made: gradient steps, a separate fit, steps with the model in the loop, or import."""
    reconstructs_input: ClassVar[bool] = True
    """Whether it writes what it reads; a transcoder does not."""
    gradient: ClassVar[GradientTraits] = GradientTraits()
    nested_groups: ClassVar[bool] = False
    """Whether earlier groups of latents are coarser, so that a latent has a parent in one of them."""
    selects_in_steps: ClassVar[bool] = False
    """Whether latents are selected one after the other, see ``encode_steps``."""
    reads_context: ClassVar[bool] = False
    """Whether its result for a token depends on the tokens before it, see ``in_context``."""

    W_enc: nn.Parameter
    b_enc: nn.Parameter
    W_dec: nn.Parameter
    b_dec: nn.Parameter

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__()
        config.check_width(widths.d_in)
        self.config, self.widths = config, widths
        self.d_in, self.d_out = widths.d_in, widths.d_out
        self.d_sae = config.n_latents(self.d_in)
        generator = torch.Generator().manual_seed(config.seed)
        directions_LE = _random_directions(self.d_sae, self.d_out, generator)
        self.W_dec = nn.Parameter(directions_LE)
        if self.reconstructs_input:
            encoder_LD = directions_LE.clone()
        else:
            encoder_LD = _random_directions(self.d_sae, self.encoder_width, generator)
        # Stored with one latent after the other, so that gradients per latent are contiguous.
        self.W_enc = nn.Parameter(encoder_LD.T)
        self.b_enc = nn.Parameter(torch.zeros(self.d_sae))
        self.b_dec = nn.Parameter(torch.zeros(self.d_out))

    @property
    def encoder_width(self) -> int:
        """Rows of ``W_enc``: all inputs, unless each latent reads only some of them."""
        return self.d_in

    @property
    def input_width(self) -> int:
        """Width of the rows to encode: that of the activations, unless it reads context."""
        return self.d_in

    @property
    def has_skip(self) -> bool:
        """Whether the input reaches the output without the latents."""
        return False

    @property
    def last_written(self) -> Tensor:
        """What each latent writes to the last of its hookpoints: (L, width of that hookpoint)."""
        return self.W_dec[:, self.d_out - self.widths.writes[-1] :]

    # --- inference ---

    def in_context(self, x_STD: Tensor, segment_ST: Tensor) -> Tensor:
        """The rows that ``encode`` and ``decode`` take, from complete sequences: (S, T, input_width).

        Each row starts with the activation itself. With ``reads_context`` it continues with what the row
        needs from the tokens before it. ``segment_ST`` numbers the documents within each sequence:
        documents never depend on each other.
        """
        return x_STD

    def centre(self) -> Tensor | None:
        """What is subtracted from the input before the encoder: ``b_dec`` if the input is reconstructed."""
        return self.b_dec if self.reconstructs_input else None

    def centred(self, x_ND: Tensor) -> Tensor:
        """The input of the encoder matrix: (N, D)."""
        centre, normed_ND = self.centre(), normalise_tokens(x_ND, self.config.input_norm)
        return normed_ND if centre is None else normed_ND - centre

    def pre_acts(self, x_ND: Tensor) -> Tensor:
        """``centred(x) W_enc + b_enc``: (N, L)."""
        return product(self.centred(x_ND), self.W_enc, self.b_enc)

    @abstractmethod
    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L), never negative, each row independently: the rule of inference."""

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The same as values and latent indices, both (N, K), largest first.

        K is the largest number of active latents of any token; the rest is padded with value 0.
        """
        acts_NL = self.encode(x_ND)
        k = int((acts_NL > 0).sum(dim=1).max()) if len(acts_NL) else 0
        return top_per_token(acts_NL, max(k, 1))

    def encode_steps(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """With ``selects_in_steps``: the sparse code and the step, from 0, that selects each latent."""
        raise NotImplementedError(f"{type(self).__name__} does not select in steps")

    def add_offset(self, summed_NE: Tensor, x_ND: Tensor) -> Tensor:
        """The output (N, E) from the weighted sum of directions: adds ``b_dec``, sometimes a part of x."""
        return restore_tokens(summed_NE + self.b_dec, x_ND, self.config.input_norm)

    def decode(self, latent_acts_NL: Tensor, x_ND: Tensor) -> Tensor:
        """``latent_acts W_dec + b_dec``: (N, E); ``x_ND`` is the input that was encoded."""
        return self.add_offset(latent_acts_NL @ self.W_dec, x_ND)

    def decode_sparse(self, values_NK: Tensor, indices_NK: Tensor, x_ND: Tensor) -> Tensor:
        """The same from values and indices: (N, E)."""
        summed_NE = embedding_bag(indices_NK, self.W_dec, mode="sum", per_sample_weights=values_NK)
        return self.add_offset(summed_NE, x_ND)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Reconstruction of the target, for most dictionaries the input: (N, E)."""
        return self.decode(self.encode(x_ND), x_ND)

    def feature_columns(self) -> dict[str, list[Any]]:
        """Properties of each latent from the weights: columns of the table ``features``, L values each."""
        threshold = getattr(self, "threshold", None)
        if threshold is None:
            return {}
        return {"threshold": threshold.detach().float().clamp_min(0).expand(self.d_sae).tolist()}

    def saelens(self) -> SaelensForm | None:
        """Its form in SAELens; None if SAELens has no architecture that encodes in this way."""
        return None

    # --- training ---

    @abstractmethod
    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> TrainingStep:
        """Loss and statistics of one batch; ``y_NE`` is the target, ``x_ND`` itself if it is the input."""

    def before_training(self, state: TrainingState) -> None:
        """Hook before the first step, for example to convert a threshold into the units of the batch.

        Raises:
            UserError: for a configuration that only imported dictionaries have.
        """
        if self.config.input_norm != "none":
            raise UserError(
                f"dictionary {self.config.name()!r}: only imported dictionaries have token_norm; "
                "train with normalisation: dataset_rms"
            )

    def after_training(self, sample_ND: Tensor) -> dict[str, float]:
        """Hook after the last step with a sample of train tokens; its result is logged."""
        return {}

    def after_step(self, state: TrainingState) -> None:
        """Hook after each optimiser step, for example to keep a threshold in its range."""

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Remove the component along each direction from its gradient: it would only change the norm."""
        if self.W_dec.grad is not None:
            along_L1 = (self.W_dec.grad * self.W_dec).sum(dim=1, keepdim=True)
            self.W_dec.grad.addcmul_(along_L1, self.W_dec, value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Scale every direction to unit norm."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))

    @torch.no_grad()
    def fold_scale(self, scale_in_D: Tensor, scale_out_E: Tensor) -> None:
        """Convert a dictionary from ``scale_in * x`` to ``scale_out * y`` into one from ``x`` to ``y``.

        Directions keep their unit norm, so all of ``scale_out_E`` must be equal, s. With f' = f / s biases
        and thresholds are divided by s and the rows of ``W_enc`` are multiplied by ``scale_in / s``.
        """
        scale = scale_out_E[0]
        if not torch.equal(scale_out_E, scale.expand_as(scale_out_E)):
            raise ValueError(
                f"{type(self).__name__} writes hookpoints of unequal scales: override fold_scale"
            )
        for name in self.scaled_with_output():
            getattr(self, name).div_(scale)
        if not torch.equal(scale_in_D, scale.expand_as(scale_in_D)):
            self.W_enc.mul_((scale_in_D / scale).unsqueeze(1))

    def scaled_with_output(self) -> tuple[str, ...]:
        """Parameters and buffers in units of the output: biases, thresholds."""
        return ("b_enc", "b_dec")


ARCHITECTURES: Registry[Dictionary] = Registry("architecture", "tasks.dictionaries.architectures")


def imported_only(architecture: str) -> str:
    """Why a dictionary of that architecture cannot be trained, as a clause."""
    return f"{architecture} dictionaries are imported, not trained: use featlas import"


def _trainable(config: DictionaryConfig) -> DictionaryConfig:
    if ARCHITECTURES[config.architecture].how_trained == "imported":
        raise ValueError(imported_only(config.architecture))
    return config


AnyDictionaryConfig = Annotated[
    SerializeAsAny[DictionaryConfig],
    BeforeValidator(ARCHITECTURES.resolve_config("architecture")),
    AfterValidator(_trainable),
]
"""Field type of a pipeline: a mapping becomes the configuration of the architecture that it names."""


def dictionary_config(value: object) -> DictionaryConfig:
    """A mapping such as ``{architecture: topk, k: 32, ...}`` as the Config of the class it names."""
    config = ARCHITECTURES.resolve_config("architecture")(value)
    if not isinstance(config, DictionaryConfig):
        raise ValueError("a dictionary configuration is a mapping with the field 'architecture'")
    return config


def build_dictionary(config: DictionaryConfig, widths: Widths | int) -> Dictionary:
    """A new dictionary with its initial weights, a function of only ``config.seed``.

    Args:
        widths: Widths of the hookpoints it reads and writes; one number is one hookpoint, read and written.
    """
    if isinstance(widths, int):
        widths = Widths.single(widths)
    return ARCHITECTURES[config.architecture](config, widths)


def _random_directions(n_rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Random unit rows."""
    rows = torch.randn(n_rows, width, generator=generator)
    rows /= rows.norm(dim=1, keepdim=True)
    return rows
