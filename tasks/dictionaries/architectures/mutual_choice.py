"""Mutual Choice: tokens and latents choose each other (Ayonrinde 2024, arXiv 2411.02124)."""

from typing import Literal

from tasks.dictionaries.architectures.batch_topk import BatchTopK, BatchTopKConfig
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.families.zipf_auxk import ChoiceConfig, ZipfRevival


class MutualChoiceConfig(ChoiceConfig, BatchTopKConfig):
    """A Mutual Choice dictionary; ``k`` is the mean number of latents of a token."""

    architecture: Literal["mutual_choice"] = "mutual_choice"  # type: ignore[assignment]


@ARCHITECTURES.register("mutual_choice")
class MutualChoice(ZipfRevival, BatchTopK):
    """Keeps the ``k * N`` largest of a batch, like BatchTopK; AuxK trains all underused latents."""

    purpose = "keeps the `k · N` largest activations of a batch and revives all underused latents"
    config: MutualChoiceConfig
