"""Ten methods at equal realised L0, beside PCA and random directions: what each keeps and what it costs.

Every method is trained on the same activations with the same width, tokens and order of the data, once per
L0 and seed; where the realised L0 on eval documents misses the one asked for, its setting is turned and it
is trained again. Work goes on where it stopped: trainings are lines of JSON in the working folder.

    python -m tests.benchmarks.bench_methods FOLDER [--stories MODEL_FOLDER --english TEXTS.parquet]

As part of ``tests.benchmarks.run`` it takes these from FEATLAS_BENCH_STORIES and FEATLAS_BENCH_ENGLISH.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import torch

from catalog.durable import replace_file, to_json
from tasks.activations.caching.cache import cache_activations
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary, dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.evaluation.suite import Subject, run_suite
from tasks.evaluation.suites.first_letter import FirstLetterConfig
from tasks.evaluation.suites.seed_consistency import SeedConsistencyConfig
from tasks.evaluation.tokens import encoded, token_batches
from tasks.measures.evaluation import evaluate
from tasks.training.trainer import train
from tests.benchmarks.equal_sparsity import Knob, Point, closest, next_setting
from tests.benchmarks.methods_table import Result, table

METHODS = {
    "topk": Knob("k", 1, 1, whole=True),
    "batch_topk": Knob("k", 1, 1, whole=True),
    "matryoshka_batch_topk": Knob("k", 1, 1, whole=True),
    "mutual_choice": Knob("k", 1, 1, whole=True),
    "feature_choice": Knob("k", 1, 1, whole=True),
    "matching_pursuit": Knob("k", 1, 1, whole=True, tuned=False),
    "jumprelu": Knob("target_l0", 1, 1),
    "gated": Knob("l1_coefficient", 4, -1.0),
    "relu_l1": Knob("l1_coefficient", 3, -1.0),
    "group_bias_adaptation": Knob("highest_frequency", 0.016, 1.0),
}
SEEDS = (0, 1)
TOLERANCE = 0.05
MOST_TRIALS = 5
HOOKPOINT = "blocks.2.resid_post"
EVAL_TOKENS = 60_000
D_SAE = 512


@dataclass(frozen=True)
class World:
    """A model, its texts, and the sparsities asked for."""

    name: str
    model: ModelConfig
    corpus: tuple[tuple[str, Any], ...]
    l0: tuple[int, ...]
    n_activations: int
    n_tokens: int
    """Training tokens of a dictionary."""
    folder: Path


class Training(NamedTuple):
    """One training that is done."""

    seed: int
    knob: float
    l0: float
    """Mean number of active latents on eval documents."""
    seconds: float
    weights: str


def worlds(
    folder: Path, stories: str | None, english: str | None, n_tokens: int, n_activations: int
) -> list[World]:
    """The embedded model, and ``stories260k`` on English text where both are given."""
    sizes = (n_activations, n_tokens, folder)
    embedded = ModelConfig(id="pico-a", source="embedded")
    found = [World("pico-a", embedded, (("source", "stdlib"),), (8, 16, 32), *sizes)]
    if stories and english:
        model = ModelConfig(id="stories260k", source="local", path=stories)
        corpus = {"source": "parquet", "path": english, "text_column": "text", "max_documents": 3000}
        found.insert(0, World("stories260k", model, tuple(corpus.items()), (4, 8, 16), *sizes))
    return found


@cache
def corpus_of(world: World) -> CorpusTable:
    """The texts of a world."""
    values = dict(world.corpus)
    return corpus_table(CORPUS_SOURCES[values["source"]].Config.model_validate(values), 0.15)


@cache
def model_of(world: World) -> LanguageModel:
    """The language model of a world."""
    return load_language_model(world.model, "cpu")


@cache
def activations_of(world: World) -> ActivationSet:
    """The cached activations of a world."""
    place = world.folder / f"activations-{world.name}-{world.n_activations}"
    done = place / "done.json"
    if not done.is_file():
        config = ActivationsConfig(
            hookpoints=(HOOKPOINT,), context_length=128, n_tokens=world.n_activations, eval_share=0.15
        )
        cached = cache_activations(model_of(world), corpus_of(world), config, place)
        done.write_text(json.dumps(str(cached.folders[HOOKPOINT])))
    return ActivationSet.open(json.loads(done.read_text()))


def run_method(world: World, method: str) -> list[Result]:
    """All trainings of one method in one world, and what was measured; what is done is read back."""
    torch.set_num_threads(1)
    journal = world.folder / f"trainings-{world.name}-{world.n_tokens}-{method}.jsonl"
    lines = journal.read_text().splitlines() if journal.is_file() else []
    done = {(one.seed, one.knob): one for one in (Training(*json.loads(line)) for line in lines)}

    def trained(seed: int, setting: float) -> Training:
        if (seed, setting) not in done:
            done[seed, setting] = _train(world, method, seed, setting)
            text = "".join(json.dumps(one) + "\n" for one in done.values())
            replace_file(journal, text.encode())
        return done[seed, setting]

    def points() -> list[Point]:
        return [Point(one.knob, one.l0) for (seed, _), one in sorted(done.items()) if seed == SEEDS[0]]

    results = []
    for target in world.l0:
        setting = _tuned(METHODS[method], target, points, lambda setting: trained(SEEDS[0], setting))
        pair = [trained(seed, setting) for seed in SEEDS]
        results.append(_result(world, method, target, pair))
    return results


def _tuned(
    knob: Knob, target: int, points: Callable[[], list[Point]], trial: Callable[[float], Training]
) -> float:
    """The setting whose realised L0 is nearest to the target."""
    if not knob.tuned:
        return float(target)
    for _ in range(MOST_TRIALS):
        known = points()
        if known and abs(math.log(max(closest(known, target).l0, 1e-3) / target)) <= TOLERANCE:
            break
        setting = next_setting(knob, known, target)
        if any(point.knob == setting for point in known):
            break
        trial(setting)
    return closest(points(), target).knob


def _train(world: World, method: str, seed: int, setting: float) -> Training:
    knob = METHODS[method]
    fields = {"architecture": method, knob.field: int(setting) if knob.whole else setting, "seed": seed}
    config = dictionary_config({**fields, "d_sae": D_SAE, "n_tokens": world.n_tokens, "batch_tokens": 1024})
    name = f"{world.name}-{world.n_tokens}-{method}-{setting:g}-s{seed}"
    scratch, weights = world.folder / "scratch" / name, world.folder / "weights" / name
    began = time.process_time()
    trained = train(
        config, activations_of(world), scratch, device="cpu", n_threads=1, checkpoint_seconds=60.0
    )
    seconds = time.process_time() - began
    save_dictionary(trained.dictionary, weights)
    return Training(seed, setting, _l0(world, trained.dictionary), seconds, str(weights))


def _l0(world: World, dictionary: Dictionary) -> float:
    n_active = n_tokens = 0
    activations = HookpointActivations.of(activations_of(world))
    for batch in token_batches(activations, "eval", EVAL_TOKENS, dictionary.d_sae):
        n_active += int((encoded(dictionary, batch.x_ND) > 0).sum())
        n_tokens += len(batch.x_ND)
    return n_active / n_tokens


def _result(world: World, method: str, target: int, pair: Sequence[Training]) -> Result:
    """Everything measured of a pair of seeds, kept beside the weights of the first."""
    kept = Path(pair[0].weights) / "measured.json"
    if not kept.is_file():
        first, second = (load_dictionary(Path(one.weights)) for one in pair)
        values, controls = _measured(world, first)
        replace_file(kept, to_json([values | _suites(world, first, second), controls]))
    values, controls = json.loads(kept.read_text())
    knob = METHODS[method]
    return Result(target, method, knob.field, pair[0].knob, pair[0].seconds, values, controls)


def _measured(world: World, dictionary: Dictionary) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = EvaluationConfig(max_tokens=EVAL_TOKENS, max_control_tokens=60_000, fidelity_sequences=32)
    rows = {
        (row["metric"], row["variant"]): row
        for row in evaluate(dictionary, activations_of(world), model_of(world), settings).to_pylist()
    }
    names = ("l0", "fvu", "delta_ce", "unseen_share", "shrinkage")
    controls = {name: json.loads(rows[name, ""]["control"]) for name in ("fvu", "delta_ce")}
    return {name: rows[name, ""]["value"] for name in names}, controls


def _suites(world: World, first: Dictionary, second: Dictionary) -> dict[str, Any]:
    """Agreement of two seeds, and what the first-letter task says of the first."""
    texts = corpus_of(world).table["text"].to_pylist()
    activations = HookpointActivations.of(activations_of(world))
    subject = Subject(first, activations, world.folder, texts, siblings=[second])
    letters = FirstLetterConfig(max_tokens=EVAL_TOKENS, max_words=3000, max_main=4)
    values: dict[str, Any] = {}
    for config in (SeedConsistencyConfig(max_tokens=40_000), letters):
        for row in run_suite(subject, config).metrics.to_pylist():
            if row["variant"] == "":
                values[row["metric"]] = row["value"]
                values[f"{row['metric']}_random"] = json.loads(row["control"] or "{}").get("random")
    return values


def run(found: Sequence[World], n_workers: int, methods: Sequence[str]) -> str:
    """Everything that is missing, then the tables."""
    for world in found:
        activations_of(world)
    units = [(world, method) for world in found for method in methods]
    results: dict[str, list[Result]] = {world.name: [] for world in found}
    with ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(run_method, world, method) for world, method in units]
        for (world, _), future in zip(units, waiting, strict=True):
            results[world.name] += future.result()
    for world in found:
        text = [asdict(result) for result in results[world.name]]
        replace_file(world.folder / f"results-{world.name}-{world.n_tokens}.json", to_json(text))
    return "\n\n".join(f"{_caption(world)}\n\n{table(results[world.name])}" for world in found)


def _caption(world: World) -> str:
    return (
        f"`{world.name}`, {HOOKPOINT}, {D_SAE} latents, {world.n_tokens:,} training tokens of one order; "
        "values of seed 0 on eval documents, MMCS to seed 1; absorbed and split: first-letter task."
    )


def main() -> str:
    """As one of the benchmarks: working folder, model and texts come from the environment."""
    folder = Path(os.environ.get("FEATLAS_BENCH_FOLDER", Path(gettempdir()) / "featlas-bench-methods"))
    folder.mkdir(parents=True, exist_ok=True)
    stories, english = (os.environ.get(f"FEATLAS_BENCH_{name}") for name in ("STORIES", "ENGLISH"))
    return run(worlds(folder.absolute(), stories, english, 1_000_000, 300_000), 2, list(METHODS))


def _from_arguments() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="working folder; what stands in it is not done again")
    parser.add_argument("--stories", help="folder of the model stories260k")
    parser.add_argument("--english", help="Parquet file with a column text")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="training tokens of a dictionary")
    parser.add_argument("--activations", type=int, default=300_000, help="cached tokens of each world")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    found = worlds(folder, options.stories, options.english, options.tokens, options.activations)
    print(run(found, options.workers, options.methods))


if __name__ == "__main__":
    _from_arguments()
