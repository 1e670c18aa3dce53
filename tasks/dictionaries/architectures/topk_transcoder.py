"""Transcoder that keeps the k largest latents of every token (Paulo, Shabalin and Belrose 2025)."""

from typing import Any, ClassVar, Literal

from tasks.dictionaries.architectures.topk import TopK, TopKConfig
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.transcoder_family import TranscoderFields, Transcoding


class TopKTranscoderConfig(TranscoderFields, TopKConfig):
    """A transcoder of an MLP; ``k`` is the number of latents of every token."""

    example: ClassVar[dict[str, Any]] = {
        "k": 2,
        "reads": ["blocks.1.mlp_in"],
        "writes": ["blocks.1.mlp_out"],
    }

    architecture: Literal["topk_transcoder"] = "topk_transcoder"  # type: ignore[assignment]


@ARCHITECTURES.register("topk_transcoder")
class TopKTranscoder(Transcoding, TopK):
    """Minimises the unexplained variance of the output; dead latents learn from its residual (AuxK)."""

    purpose = "predicts one hookpoint from another with the `k` largest latents"
    starts_centred: ClassVar[bool] = False
    config: TopKTranscoderConfig
