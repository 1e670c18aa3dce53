"""Shared code of transcoders: one hookpoint is read, another is written, optionally with a linear skip path.

``f = act(x W_enc + b_enc)``, ``y = f W_dec + b_dec + x W_skip``. The input is not centred; ``b_dec`` belongs
to the output. Legend: N tokens, D d_in, E d_out.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from tasks.dictionaries.base import Dictionary, GradientTraits
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.saelens_form import SaelensForm
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths


class TranscoderFields(GradientConfig):
    """The fields that transcoders add to those of the architecture whose encoder they use."""

    skip: bool = False
    """Add a linear path from input to output next to the latents (W_skip, zero at the start)."""

    def check_hookpoints(self) -> None:
        if len(self.reads or ()) != 1 or len(self.writes or ()) != 1 or self.models is not None:
            raise ValueError(
                f"{self.architecture} reads one hookpoint and writes another: give both, for example "
                "reads: [blocks.2.mlp_in], writes: [blocks.2.mlp_out]"
            )

    def name(self) -> str:
        """Readable name, for example topk_transcoder-x8-k32-skip-s0."""
        name, separator, seed = super().name().rpartition("-s")
        return f"{name}-skip{separator}{seed}" if self.skip else f"{name}{separator}{seed}"


class Transcoding(Dictionary):
    """Mix in before the class that encodes."""

    reconstructs_input: ClassVar[bool] = False
    gradient = GradientTraits()
    starts_centred: ClassVar[bool] = True
    """Whether the bias of the encoder starts by removing the mean input; not for TopK, where it is worse."""
    config: TranscoderFields

    def __init__(self, config: DictionaryConfig, widths: Widths) -> None:
        super().__init__(config, widths)
        self.W_skip = nn.Parameter(torch.zeros(self.d_in, self.d_out)) if self.config.skip else None

    def saelens(self) -> SaelensForm | None:
        """None, unless SAELens has the architecture."""
        return None

    @property
    def has_skip(self) -> bool:
        """Whether the input reaches the output without the latents."""
        return self.W_skip is not None

    def add_offset(self, summed_NE: Tensor, x_ND: Tensor) -> Tensor:
        """The output (N, E) from the weighted sum of directions: adds bias and skip path."""
        if self.W_skip is not None:
            summed_NE = summed_NE + x_ND @ self.W_skip
        return super().add_offset(summed_NE, x_ND)

    @torch.no_grad()
    def before_training(self, state: TrainingState) -> None:
        """Let every latent start with a pre-activation of mean zero."""
        super().before_training(state)
        if self.starts_centred and state.input_mean is not None:
            self.b_enc.copy_(-state.input_mean @ self.W_enc)

    @torch.no_grad()
    def fold_scale(self, scale_in_D: Tensor, scale_out_E: Tensor) -> None:
        """Like every dictionary; the skip path maps ``x`` to ``y``: ``scale_in * W_skip / scale_out``."""
        super().fold_scale(scale_in_D, scale_out_E)
        if self.W_skip is not None:
            self.W_skip.mul_(scale_in_D.unsqueeze(1)).div_(scale_out_E)
