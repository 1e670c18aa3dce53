"""What it costs to observe a dictionary on a second set, against mining it on its home, in turns.

Both are the stages as a run has them, with their claims and commits. Observing is ``observe_dictionary`` and
``mine_examples`` on the set of a tuned model; its activations are cached before. Processor time is measured,
which other processes on the machine change less than wall time.
"""

import logging
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from catalog.ledger import StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.base import dictionary_config
from tasks.mining.config import MiningConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.stages.observe_dictionary import ObserveUnit, observe_dictionary
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.policies import StageContext
from tasks.support.training_units import CachedHookpoint, TrainUnit

ROUNDS = 5
HOOKPOINT = "blocks.2.resid_post"
ACTIVATIONS = ActivationsConfig(
    hookpoints=(HOOKPOINT,), context_length=128, n_tokens=200_000, eval_share=0.25
)
DICTIONARY: dict[str, Any] = {"architecture": "topk", "expansion_factor": 8, "k": 16, "n_tokens": 100_000}


@dataclass(frozen=True)
class Sides:
    """A dictionary at home, and the hookpoint of the tuned model."""

    context: StageContext
    trained: StageOutcome
    home: CachedHookpoint
    away: CachedHookpoint

    def mine_home(self, config: MiningConfig) -> None:
        mine_examples.fn(self.context, MineUnit(config, (self.home.model,), self.trained))

    def observe(self, config: MiningConfig) -> None:
        unit = ObserveUnit(self.trained, (self.away,), (self.away,))
        forced = StageContext(self.context.root, "run-1", frozenset({"observe_dictionary"}), device="cpu")
        observed = observe_dictionary.fn(forced, unit)
        mine_examples.fn(self.context, MineUnit(config, (self.away.model,), observed))


def main() -> str:
    """One table."""
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as folder:
        sides = _sides(Path(folder))
        seconds: dict[str, list[float]] = {"mine_home": [], "observe": []}
        for round_ in range(ROUNDS):
            config = MiningConfig(seed=round_)  # another unit of work in each round
            for name in list(seconds)[:: 1 if round_ % 2 else -1]:
                begin = time.process_time()
                getattr(sides, name)(config)
                seconds[name].append(time.process_time() - begin)
    ratios = [a / b for a, b in zip(seconds["observe"], seconds["mine_home"], strict=True)]
    return "\n".join(
        [
            "| tokens | mining at home, CPU s | observing a second set, CPU s | second / home, range |",
            "|--|--|--|--|",
            f"| {ACTIVATIONS.n_tokens:,} | {statistics.median(seconds['mine_home']):.2f} "
            f"| {statistics.median(seconds['observe']):.2f} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}) |",
        ]
    )


def _sides(folder: Path) -> Sides:
    context = StageContext(folder / "catalogue", "run-1", device="cpu")
    corpus = load_corpus.fn(context, CorpusUnit(CORPUS_SOURCES["stdlib"].Config(), 0.25))
    points = []
    for name in ("pico-a", "pico-a-tuned"):
        model = ModelConfig(id=name, source="embedded")
        described = describe_model.fn(context, ModelUnit(model))
        cached = cache_activations.fn(context, CacheUnit(model, ACTIVATIONS, corpus, described))
        points.append(CachedHookpoint(cached, HOOKPOINT, model))
    trained = train_dictionary.fn(context, TrainUnit(dictionary_config(DICTIONARY), (points[0],), None))
    return Sides(context, trained, *points)
