"""Skip transcoder: TopK latents and a linear path (Paulo, Shabalin and Belrose 2025, arXiv 2501.18823).

Latents do not explain what the linear path explains: the metric ``skip_share`` measures that part.
"""

from typing import Literal

from tasks.dictionaries.architectures.topk_transcoder import TopKTranscoder, TopKTranscoderConfig
from tasks.dictionaries.base import ARCHITECTURES


class SkipTranscoderConfig(TopKTranscoderConfig):
    """A TopK transcoder with a linear path from input to output."""

    architecture: Literal["skip_transcoder"] = "skip_transcoder"  # type: ignore[assignment]
    skip: Literal[True] = True
    """The linear path; without it choose topk_transcoder."""

    def name(self) -> str:
        """Readable name, for example skip_transcoder-x8-k32-s0."""
        return super().name().replace("-skip-", "-")


@ARCHITECTURES.register("skip_transcoder")
class SkipTranscoder(TopKTranscoder):
    """``W_skip`` starts at zero. Directions have unit norm; those of sparsify start at zero."""

    purpose = "is a `topk_transcoder` with a linear path beside the latents"
    config: SkipTranscoderConfig
