"""Two processes that compute at once against the same work one after the other: what sharing cores is worth.

Each pair is measured in turns, in two processes that live on, with a state folder of their own so that
nothing else is counted: the work alone in one and then in the other, then in both at once. The ratio is the
seconds of both alone over those until both have ended at once: 1 is no loss. The last column compares one
alone as a run does it (its share of the cores, and what its size deserves) with one told to use all cores.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Self

import torch

from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.language_model import LanguageModel, load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.common.cores import SETTINGS, shared_cores
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine
from tasks.training.trainer import train

ROUNDS = 1
HOOKPOINT = "blocks.2.resid_post"
TRAININGS = {"training, 1,024 latents": (1_024, 100_000), "training, 8,192 latents": (8_192, 20_000)}
CACHED = {"caching, 10,000 tokens": 10_000, "caching, 40,000 tokens": 40_000}
MINED = {"mining, 512 latents": 512, "mining, 4,096 latents": 4_096}
SET_TOKENS = 20_000
DONE = "done"


def main() -> str:
    """One line for each kind and size of work."""
    lines = [
        f"Embedded model, {os.cpu_count()} cores, median of {ROUNDS} rounds after a warm one.",
        "",
        "| what | one after the other, s | both at once, s | ratio | one alone, all cores / share |",
        "|--|--|--|--|--|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _cache(_model(), _corpus(), folder / "set", SET_TOKENS)
        lines += [_row(what, folder) for what in (*TRAININGS, *CACHED, *MINED)]
    return "\n".join(lines)


def _row(what: str, folder: Path) -> str:
    after, at_once, shares = [], [], []
    with ExitStack() as stack:
        pair = [stack.enter_context(Worker(what, folder)) for _ in range(2)]
        _seconds(pair, "share")
        for _ in range(ROUNDS):
            alone = [_seconds([worker], "share") for worker in pair]
            after.append(sum(alone))
            at_once.append(_seconds(pair, "share"))
            shares.append(_seconds(pair[:1], "all") / statistics.mean(alone))
    ratio = statistics.median(a / b for a, b in zip(after, at_once, strict=True))
    return (
        f"| {what} | {statistics.median(after):.1f} | {statistics.median(at_once):.1f} | {ratio:.2f} "
        f"| {statistics.median(shares):.2f} |"
    )


def _seconds(workers: "list[Worker]", cores: str) -> float:
    """Seconds until all of them have done their work, begun at once."""
    begun_at = time.perf_counter()
    for worker in workers:
        worker.begin(cores)
    for worker in workers:
        worker.wait()
    return time.perf_counter() - begun_at


class Worker:
    """A process that does one kind of work whenever it is asked."""

    def __init__(self, what: str, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bench_sharing", what, str(folder)],
            env={**environment, "FEATLAS_STATE": str(folder / "state")},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def begin(self, cores: str) -> None:
        """Ask for the work on its ``share`` of the cores, or on ``all`` of them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{cores}\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Until the work is done."""
        assert self._process.stdout is not None
        if not any(line.strip() == DONE for line in iter(self._process.stdout.readline, "")):
            raise RuntimeError(f"a process ended with {self._process.wait()} before its work: run it by hand")


def work(what: str, folder: Path) -> None:
    """Do a piece of work in a new folder for each line of the standard input."""
    do = _prepared(what, folder)
    for line in sys.stdin:
        is_shared = line.strip() == "share"
        cores: AbstractContextManager[Any] = shared_cores() if is_shared else nullcontext()
        with tempfile.TemporaryDirectory(dir=folder) as scratch, cores:
            do(Path(scratch), None if is_shared else torch.get_num_threads())
        print(DONE, flush=True)


def _prepared(what: str, folder: Path) -> Callable[[Path, int | None], None]:
    """The work, all that it reads at hand; told a folder, and the threads unless it chooses them itself."""
    if what in CACHED:
        model, corpus = _model(), _corpus()
        return lambda scratch, _: _cache(model, corpus, scratch, CACHED[what])
    activation_set = ActivationSet.open(next((folder / "set").glob("blocks*")))
    if what in TRAININGS:
        n_latents, n_tokens = TRAININGS[what]
        config = _config(n_latents, n_tokens)

        def training(scratch: Path, n_threads: int | None) -> None:
            train(config, activation_set, scratch, device="cpu", n_threads=n_threads)

        return training
    dictionary, documents = build_dictionary(_config(MINED[what]), activation_set.d_in), _corpus().table

    def mining(scratch: Path, _: int | None) -> None:
        mined = mine(dictionary, activation_set, documents, None, MiningConfig(), scratch)
        assert sum(batch.num_rows for batch in mined.examples)

    return mining


def _config(n_latents: int, n_tokens: int = 1_000) -> Any:
    fields = {"architecture": "topk", "k": 16, "d_sae": n_latents, "n_tokens": n_tokens, "lr": 1e-3}
    return dictionary_config(fields)


def _model() -> LanguageModel:
    return load_language_model(ModelConfig(id="pico-a", source="embedded"), "cpu")


def _corpus() -> CorpusTable:
    return corpus_table(CORPUS_SOURCES["stdlib"].Config(source="stdlib"), 0.1)


def _cache(model: LanguageModel, corpus: CorpusTable, scratch: Path, n_tokens: int) -> None:
    config = ActivationsConfig(
        hookpoints=(HOOKPOINT,), context_length=128, n_tokens=n_tokens, dtype="float16"
    )
    cache_activations(model, corpus, config, scratch)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]))
