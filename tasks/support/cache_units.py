"""What is cached: a model on a corpus, or on the first generations of a corpus that grows."""

from dataclasses import dataclass, replace
from pathlib import Path

from catalog.ledger import Ledger, StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.source import ModelConfig
from tasks.support.growing import CorpusPart
from tasks.support.policies import UnitKey
from tasks.support.stored import shards_folder

STAGE, VERSION = "cache_activations", 2


@dataclass(frozen=True)
class CacheUnit:
    """A model, a corpus or its first generations, and the settings of the activations."""

    model: ModelConfig
    config: ActivationsConfig
    corpus: StageOutcome
    described: StageOutcome
    n_generations: int | None = None
    """Generations of a corpus that grows; None for a corpus that does not."""

    @property
    def part(self) -> CorpusPart | None:
        """What is cached of a corpus that grows; None for one that does not."""
        if self.n_generations is None:
            return None
        return CorpusPart(self.corpus.facts, self.n_generations)

    @property
    def corpus_id(self) -> str:
        return str(self.corpus.facts["corpus_id"] if self.part is None else self.part.corpus_id)

    @property
    def label(self) -> str:
        return f"{self.model.id} on {self.corpus_id}"

    @property
    def key(self) -> UnitKey:
        """The identity of this caching run; of a corpus that grows only its documents count."""
        settings = self.config.for_model(self.model).canonical()
        config = {"model": self.model.id, "dtype": self.model.dtype, "activations": settings}
        parents = [self.corpus.fingerprint, self.described.fingerprint]
        if self.part is not None:
            config["documents"], parents = self.part.digest, parents[1:]
        return UnitKey(STAGE, VERSION, self.label, config, parents)

    def earlier(self, root: Path) -> dict[str, Path]:
        """By hookpoint, the sets of as many of the first generations as are in the catalogue."""
        for n in range((self.n_generations or 1) - 1, 0, -1):
            found = Ledger(root).outcome(replace(self, n_generations=n).key.fingerprint)
            if found is not None:
                return {name: shards_folder(root, s) for name, s in found.facts["activation_sets"].items()}
        return {}
