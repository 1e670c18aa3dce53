"""Transcoder with a learned threshold for every latent, like those of Gemma Scope 2 and of SAELens."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.dictionaries.architectures.jumprelu import JumpReLU, JumpReLUConfig
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.transcoder_family import TranscoderFields, Transcoding
from tasks.dictionaries.saelens_form import SaelensForm


class JumpReLUTranscoderConfig(TranscoderFields, JumpReLUConfig):
    """A JumpReLU transcoder of an MLP; sparsity is set as for ``jumprelu``."""

    example: ClassVar[dict[str, Any]] = {
        "target_l0": 2.0,
        "reads": ["blocks.1.mlp_in"],
        "writes": ["blocks.1.mlp_out"],
    }

    architecture: Literal["jumprelu_transcoder"] = "jumprelu_transcoder"  # type: ignore[assignment]
    beta1: float = Field(default=0.0, ge=0, lt=1)  # of two bases with a default the first would win
    """Adam's decay of the first moment; 0 because the gradient of thresholds is noisy."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; default: by the length of the training."""


@ARCHITECTURES.register("jumprelu_transcoder")
class JumpReLUTranscoder(Transcoding, JumpReLU):
    """``z * (z > threshold)`` with ``z = x W_enc + b_enc``, to the output."""

    purpose = "predicts one hookpoint from another, with a threshold for every latent"
    config: JumpReLUTranscoderConfig

    def saelens(self) -> SaelensForm:
        """A transcoder, of another name with a skip path."""
        return SaelensForm("jumprelu_skip_transcoder" if self.has_skip else "jumprelu_transcoder")
