"""Transcoder with ReLU and L1 (Dunefsky, Chlenski and Nanda 2024, arXiv 2406.11944)."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tasks.dictionaries.architectures.relu_l1 import ReluL1, ReluL1Config
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.transcoder_family import TranscoderFields, Transcoding
from tasks.dictionaries.saelens_form import SaelensForm


class TranscoderConfig(TranscoderFields, ReluL1Config):
    """A transcoder of an MLP: reads its input, writes its output."""

    example: ClassVar[dict[str, Any]] = {
        "l1_coefficient": 0.1,
        "lr": 1e-2,
        "reads": ["blocks.1.mlp_in"],
        "writes": ["blocks.1.mlp_out"],
    }

    architecture: Literal["transcoder"] = "transcoder"  # type: ignore[assignment]
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """Adam's decay of the second moment; left out: by the length of the training."""


@ARCHITECTURES.register("transcoder")
class Transcoder(Transcoding, ReluL1):
    """``relu(x W_enc + b_enc)`` to the output; error over the squared mean norm of the output, plus L1."""

    purpose = "predicts one hookpoint from another, by ReLU with an L1 penalty"
    config: TranscoderConfig

    def saelens(self) -> SaelensForm:
        """A transcoder, of another name with a skip path."""
        return SaelensForm("skip_transcoder" if self.has_skip else "transcoder")
