"""Share of mining that near features, common documents and the distribution of logits take.

Their functions are timed inside whole minings of pico-a, in processor time, which other processes on the
machine change less than wall time.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from tasks.activations.caching.cache import cache_activations
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES, corpus_table
from tasks.activations.models.language_model import ModelConfig, load_language_model
from tasks.mining import logits, miner, survey
from tasks.mining.config import MiningConfig
from tasks.mining.context_pairs import ContextPairs
from tasks.mining.logits import unembedding_at
from tests.benchmarks.bench_mining import HOOKPOINT, _dictionary

ROUNDS = 3
N_TOKENS = 440_000
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "near features": ((miner, "neighbour_rows"), (miner, "nearest_cosine_of_random")),
    "two contexts of documents": ((survey, "draw_contexts"), (ContextPairs, "add")),
    "distribution of logits": ((logits, "logit_distribution"),),
}


def main() -> str:
    """One table: processor time of each part and its share of a mining, medians and range over rounds."""
    model = load_language_model(ModelConfig(id="pico-a", source="embedded"), "cpu")
    corpus = corpus_table(CORPUS_SOURCES["stdlib"].Config(source="stdlib"), 0.25)
    rounds: list[Counter[str]] = []
    with TemporaryDirectory() as folder:
        config = ActivationsConfig(hookpoints=(HOOKPOINT,), context_length=128, n_tokens=N_TOKENS)
        found = cache_activations(model, corpus, config, Path(folder) / "set").open(HOOKPOINT)
        dictionary, unembedding = _dictionary(found), unembedding_at(model, HOOKPOINT)

        def mine(scratch: Path) -> None:
            mined = miner.mine(dictionary, found, corpus.table, unembedding, MiningConfig(), scratch)
            assert sum(batch.num_rows for batch in mined.examples)
            assert sum(batch.num_rows for batch in mined.by_document)

        mine(Path(folder) / "warm-up")
        rounds += [_timed(partial(mine, Path(folder) / f"round-{n}")) for n in range(ROUNDS)]
    lines = ["| part | CPU s | share of mining, range |", "|--|--|--|"]
    for name in (*PARTS, "all three"):
        seconds = [r[name] if name in PARTS else sum(r[part] for part in PARTS) for r in rounds]
        shares = [100 * spent / r["mining"] for spent, r in zip(seconds, rounds, strict=True)]
        median = f"{statistics.median(shares):.1f} % ({min(shares):.1f}–{max(shares):.1f})"
        lines.append(f"| {name} | {statistics.median(seconds):.2f} | {median} |")
    whole = [r["mining"] for r in rounds]
    lines.append(f"| mining of {found.n_valid_tokens():,} tokens | {statistics.median(whole):.2f} | |")
    return "\n".join(lines)


def _timed(mine: Callable[[], None]) -> Counter[str]:
    """Processor seconds of one mining, and of each part inside it."""
    spent: Counter[str] = Counter()

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.process_time() - begin  # type: ignore[assignment]

        return wrapper

    patches = [
        patch.object(place, function, timed(name, getattr(place, function)))
        for name, functions in PARTS.items()
        for place, function in functions
    ]
    for one in patches:
        one.start()
    try:
        mine_and_rest = timed("mining", mine)
        mine_and_rest()
    finally:
        patch.stopall()
    return spent


if __name__ == "__main__":
    print(main())
