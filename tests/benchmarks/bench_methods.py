"""Ten methods at equal realised L0, beside PCA and random directions: what each keeps and what it costs.

Every method is trained on the same activations with the same width, tokens and order of the data, once per
L0 and seed; where the realised L0 on eval documents misses the one asked for, its setting is turned and it
is trained again. Work goes on where it stopped: every training is a line of JSON in the working folder.

    python -m tests.benchmarks.bench_methods FOLDER [--stories MODEL_FOLDER --english TEXTS.parquet]

As part of ``tests.benchmarks.run`` it takes these from FEATLAS_BENCH_STORIES and FEATLAS_BENCH_ENGLISH.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch

from catalog.durable import replace_file
from tasks.activations.cache import cache_activations
from tasks.activations.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES, corpus_table
from tasks.activations.language_model import ModelConfig, load_language_model
from tasks.activations.shards import ActivationSet
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.evaluation import evaluate
from tasks.dictionaries.sites import SiteActivations
from tasks.dictionaries.trainer import train
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.evaluation.suite import Subject, run_suite
from tasks.evaluation.suites.first_letter import FirstLetterConfig
from tasks.evaluation.suites.seed_consistency import SeedConsistencyConfig
from tests.benchmarks.equal_sparsity import Knob, Point, closest, next_setting

METHODS = {
    "topk": Knob("k", 1, 1, whole=True),
    "batch_topk": Knob("k", 1, 1, whole=True),
    "matryoshka_batch_topk": Knob("k", 1, 1, whole=True),
    "mutual_choice": Knob("k", 1, 1, whole=True),
    "feature_choice": Knob("k", 1, 1, whole=True),
    "matching_pursuit": Knob("k", 1, 1, whole=True, tuned=False),
    "jumprelu": Knob("target_l0", 1, 1),
    "gated": Knob("l1_coefficient", 3, -1.0),
    "relu_l1": Knob("l1_coefficient", 3, -1.0),
    "group_bias_adaptation": Knob("highest_frequency", 0.01, 1.0),
}
SEEDS = (0, 1)
TOLERANCE = 0.05
MOST_TRIALS = 5
HOOKPOINT = "blocks.2.resid_post"


@dataclass(frozen=True)
class World:
    """A model, its texts, and the sparsities asked for."""

    name: str
    model: ModelConfig
    corpus: dict[str, Any]
    l0: tuple[int, ...]
    d_sae: int
    n_activations: int
    n_tokens: int
    """Training tokens of a dictionary."""


@dataclass(frozen=True)
class Result:
    """One training and what was measured on eval documents."""

    world: str
    method: str
    seed: int
    knob: float
    l0: float
    fvu: float
    delta_ce: float
    unseen_share: float
    shrinkage: float
    seconds: float
    """Wall time of the training on one thread, another training beside it."""
    controls: dict[str, dict[str, float]]
    """FVU and delta_ce of PCA and of a random dictionary with k = the realised L0."""
    weights: str


def worlds(stories: str | None, english: str | None, n_tokens: int, n_activations: int) -> list[World]:
    """The embedded model, and ``stories260k`` on English text where both are given."""
    found = [
        World(
            "pico-a",
            ModelConfig(id="pico-a", source="embedded"),
            {"source": "stdlib"},
            (8, 16, 32),
            512,
            n_activations,
            n_tokens,
        )
    ]
    if stories and english:
        model = ModelConfig(id="stories260k", source="local", path=stories)
        corpus = {"source": "parquet", "path": english, "text_column": "text", "max_documents": 3000}
        found.insert(0, World("stories260k", model, corpus, (4, 8, 16), 512, n_activations, n_tokens))
    return found


def activations_of(world: World, folder: Path) -> tuple[ActivationSet, list[str]]:
    """The cached activations of a world and the texts of its documents."""
    source = CORPUS_SOURCES[world.corpus["source"]].Config
    corpus = corpus_table(source.model_validate(world.corpus), 0.15)
    config = ActivationsConfig(
        hookpoints=(HOOKPOINT,), context_length=128, n_tokens=world.n_activations, eval_share=0.15
    )
    place = folder / f"activations-{world.name}-{world.n_activations}"
    done = place / "done.json"
    if not done.is_file():
        model = load_language_model(world.model, "cpu")
        cached = cache_activations(model, corpus, config, place)
        done.write_text(json.dumps(str(cached.folders[HOOKPOINT])))
    return ActivationSet.open(json.loads(done.read_text())), corpus.table["text"].to_pylist()


def run_method(world: World, folder: Path, method: str) -> list[Result]:
    """All trainings of one method in one world; those done already are read back."""
    torch.set_num_threads(1)
    activations, _ = activations_of(world, folder)
    journal = folder / f"results-{world.name}-{world.n_tokens}-{method}.jsonl"
    lines = journal.read_text().splitlines() if journal.is_file() else []
    done = {(r.seed, r.knob): r for r in (Result(**json.loads(line)) for line in lines)}
    trial = partial(_trial, world, folder, method, activations)

    def result(seed: int, setting: float) -> Result:
        if (seed, setting) not in done:
            done[seed, setting] = trial(seed, setting)
            lines = [json.dumps(asdict(one)) for one in done.values()]
            replace_file(journal, "\n".join([*lines, ""]).encode())
        return done[seed, setting]

    chosen = []
    for target in world.l0:
        setting = _tuned(METHODS[method], target, done, partial(result, SEEDS[0]))
        chosen += [result(seed, setting) for seed in SEEDS]
    return chosen


def _tuned(knob: Knob, target: int, done: dict[tuple[int, float], Result], first: Any) -> float:
    """The setting of the first seed whose realised L0 is nearest to the target."""
    for _ in range(MOST_TRIALS if knob.tuned else 1):
        points = [Point(r.knob, r.l0) for (seed, _), r in sorted(done.items()) if seed == SEEDS[0]]
        if points and abs(math.log(max(closest(points, target).l0, 1e-3) / target)) <= TOLERANCE:
            return closest(points, target).knob
        setting = next_setting(knob, points if knob.tuned else [], target)
        if any(point.knob == setting for point in points):
            break
        first(setting)
    points = [Point(r.knob, r.l0) for (seed, _), r in sorted(done.items()) if seed == SEEDS[0]]
    return closest(points, target).knob if knob.tuned else float(target)


def _trial(
    world: World, folder: Path, method: str, activations: ActivationSet, seed: int, setting: float
) -> Result:
    knob = METHODS[method]
    fields = {"architecture": method, knob.field: int(setting) if knob.whole else setting, "seed": seed}
    sizes = {"d_sae": world.d_sae, "n_tokens": world.n_tokens, "batch_tokens": 1024}
    name = f"{world.name}-{world.n_tokens}-{method}-{setting:g}-s{seed}"
    began = time.monotonic()
    trained = train(
        dictionary_config(fields | sizes),
        activations,
        folder / "scratch" / name,
        device="cpu",
        n_threads=1,
        checkpoint_seconds=60.0,
    )
    seconds = time.monotonic() - began
    weights = folder / "weights" / name
    save_dictionary(trained.dictionary, weights)
    model = load_language_model(world.model, "cpu")
    settings = EvaluationConfig(max_tokens=60_000, max_control_tokens=60_000, fidelity_sequences=32)
    rows = {
        (row["metric"], row["variant"]): row
        for row in evaluate(trained.dictionary, activations, model, settings).to_pylist()
    }
    values = {
        name: rows[name, ""]["value"] for name in ("l0", "fvu", "delta_ce", "unseen_share", "shrinkage")
    }
    controls = {name: json.loads(rows[name, ""]["control"]) for name in ("fvu", "delta_ce")}
    return Result(
        world.name, method, seed, setting, **values, seconds=seconds, controls=controls, weights=str(weights)
    )


def _extra(world: World, folder: Path, pair: tuple[Result, Result]) -> dict[str, float | None]:
    """Agreement of two seeds, and what the first-letter task says of the first; kept beside the weights."""
    kept = Path(pair[0].weights) / "extra.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    torch.set_num_threads(1)
    activations, texts = activations_of(world, folder)
    first, second = (load_dictionary(Path(result.weights)) for result in pair)
    subject = Subject(first, SiteActivations.of(activations), folder, texts, siblings=[second])
    letters = FirstLetterConfig(max_tokens=60_000, max_words=3000, max_main=4)
    rows = [
        row
        for config in (SeedConsistencyConfig(max_tokens=40_000), letters)
        for row in run_suite(subject, config).to_pylist()
        if row["variant"] == ""
    ]
    values = {row["metric"]: row["value"] for row in rows}
    values["mmcs_random"] = next(
        json.loads(row["control"])["random"] for row in rows if row["metric"] == "seed_mmcs"
    )
    kept.write_text(json.dumps(values))
    return values


def table(world: World, folder: Path, results: dict[str, list[Result]]) -> str:
    """The Markdown table of one world."""
    lines = [
        f"`{world.name}`, {HOOKPOINT}, {world.d_sae} latents, {world.n_tokens:,} training tokens; seed 0, "
        "MMCS to seed 1. Absorbed and split are the first-letter task's.",
        "",
        "| L0 asked | method | setting | L0 | FVU | ΔCE (nats) | unseen | shrinkage γ | MMCS | absorbed "
        "| split | train (s) |",
        "|--|--|--|--|--|--|--|--|--|--|--|--|",
    ]
    for place, target in enumerate(world.l0):
        rows = []
        for method, found in results.items():
            pair = (found[2 * place], found[2 * place + 1])
            rows.append((pair[0].fvu, method, pair[0], _extra(world, folder, pair)))
        lines += [
            _line(target, method, result, extra)
            for _, method, result, extra in sorted(rows, key=lambda r: r[0])
        ]
        lines += list(_control_lines(target, rows[0][2], rows[0][3]))
    return "\n".join(lines)


def _line(target: int, method: str, r: Result, extra: dict[str, Any]) -> str:
    knob = METHODS[method]
    names = ("seed_mmcs", "absorption_fraction", "split_latents")
    shown = " | ".join(_shown(extra.get(name)) for name in names)
    return (
        f"| {target} | {method} | {knob.field} {r.knob:g} | {r.l0:.2f} | {r.fvu:.4f} | {r.delta_ce:.4f} "
        f"| {r.unseen_share:.1%} | {r.shrinkage:.3f} | {shown} | {r.seconds:.1f} |"
    )


def _control_lines(target: int, r: Result, extra: dict[str, Any]) -> Iterator[str]:
    for name in ("pca", "random"):
        mmcs = _shown(extra.get("mmcs_random")) if name == "random" else "–"
        fvu, k = r.controls["fvu"][name], r.controls["fvu"]["k"]
        yield (
            f"| {target} | *{name}* | k {k:g} | {k:g} | {fvu:.4f} | {r.controls['delta_ce'][name]:.4f} "
            f"| – | – | {mmcs} | – | – | – |"
        )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def run(found: Sequence[World], folder: Path, n_workers: int, methods: Sequence[str]) -> str:
    """Everything that is missing, then the tables."""
    for world in found:
        activations_of(world, folder)
    units = [(world, method) for world in found for method in methods]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        waiting = [pool.submit(run_method, world, folder, method) for world, method in units]
        done = {
            (world.name, method): future.result()
            for (world, method), future in zip(units, waiting, strict=True)
        }
    tables = [table(w, folder, {method: done[w.name, method] for method in methods}) for w in found]
    return "\n\n".join(tables)


def main() -> str:
    """As one of the benchmarks: working folder, model and texts come from the environment."""
    folder = Path(os.environ.get("FEATLAS_BENCH_FOLDER", Path(gettempdir()) / "featlas-bench-methods"))
    folder.mkdir(parents=True, exist_ok=True)
    stories, english = (os.environ.get(f"FEATLAS_BENCH_{name}") for name in ("STORIES", "ENGLISH"))
    return run(worlds(stories, english, 1_000_000, 300_000), folder, 2, list(METHODS))


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
    options.folder.mkdir(parents=True, exist_ok=True)
    found = worlds(options.stories, options.english, options.tokens, options.activations)
    print(run(found, options.folder.absolute(), options.workers, options.methods))


if __name__ == "__main__":
    _from_arguments()
