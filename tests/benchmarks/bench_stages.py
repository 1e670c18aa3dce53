"""What each stage costs, in forward passes of its tokens, on a model of over 100 M parameters.

The model is built like pico-a with more and wider layers, and has random weights: what it computes has no
meaning, what it costs has. A forward pass is timed before and after each stage, and the mean of both is the
unit, so that a busy machine is equally busy for both. Wall time.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from catalog.ledger import StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES
from tasks.activations.models.embedded import embedded_model_path
from tasks.activations.models.language_model import LanguageModel, load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.inputs import model_inputs
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.mining.config import MiningConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.policies import StageContext
from tasks.support.stored import shards_folder
from tasks.support.training_units import CachedHookpoint, TrainUnit

SHAPE = {"hidden_size": 768, "intermediate_size": 3_072, "num_hidden_layers": 12, "num_attention_heads": 12}
HOOKPOINT = "blocks.6.resid_post"
ACTIVATIONS = ActivationsConfig(
    hookpoints=(HOOKPOINT,), context_length=128, n_tokens=6_144, eval_share=0.25, batch_sequences=8
)
DICTIONARIES = [
    {"architecture": "topk", "d_sae": 2_048, "k": 16, "n_tokens": 4_096, "seed": seed} for seed in range(3)
]
EVALUATION = EvaluationConfig(fidelity_sequences=12)


class Stages:
    """Runs stages and notes their seconds beside those of a forward pass of their tokens."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.lines: list[str] = []

    def time(self, name: str, n_tokens: int, forward: Callable[[], float], stage: Any, unit: Any) -> Any:
        """Run a stage between two timings of a forward pass of ``n_tokens`` tokens."""
        before = forward()
        begin = time.monotonic()
        outcome = stage.fn(self.context, unit)
        seconds = time.monotonic() - begin
        plain = (before + forward()) / 2
        self.lines.append(f"| {name} | {n_tokens:,} | {plain:.1f} | {seconds:.1f} | {seconds / plain:.2f} |")
        return outcome


def main() -> str:
    """One table."""
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as folder:
        model = ModelConfig(id="large", source="local", path=str(_model(Path(folder) / "model")))
        lines, n_parameters = _measure(StageContext(Path(folder) / "catalogue", "run-1", device="cpu"), model)
    return "\n".join(
        [
            f"{n_parameters / 1e6:.0f} M parameters, {torch.get_num_threads()} threads",
            "",
            "| stage | tokens | one forward pass of them, s | stage, s | stage / forward |",
            "|--|--|--|--|--|",
            *lines,
        ]
    )


def _measure(context: StageContext, model: ModelConfig) -> tuple[list[str], int]:
    stages = Stages(context)
    corpus = load_corpus.fn(context, CorpusUnit(CORPUS_SOURCES["stdlib"].Config(), 0.25))
    described = describe_model.fn(context, ModelUnit(model))
    loaded = load_language_model(model, "cpu")
    unit = CacheUnit(model, ACTIVATIONS, corpus, described)
    warm = cache_activations.fn(context, unit)
    tokens = ActivationSet.open(shards_folder(context.root, warm.facts["activation_sets"][HOOKPOINT])).tokens
    everything = _forward(loaded, tokens, slice(0, tokens.n_sequences))
    eval_rows = slice(tokens.n_train, min(tokens.n_sequences, tokens.n_train + EVALUATION.fidelity_sequences))
    held_out = _forward(loaded, tokens, eval_rows)
    n_eval = (eval_rows.stop - eval_rows.start) * tokens.context_length
    again = StageContext(context.root, "run-1", frozenset({"cache_activations"}), device="cpu")
    stages.context = again
    cached = stages.time("cache_activations", tokens.n_tokens, everything, cache_activations, unit)
    stages.context = context
    trained: list[StageOutcome] = []
    for number, fields in enumerate(DICTIONARIES, start=1):
        of_dictionary = TrainUnit(
            dictionary_config(fields), (CachedHookpoint(cached, HOOKPOINT, model),), None
        )
        trained.append(train_dictionary.fn(context, of_dictionary))
        evaluated = EvaluateUnit(EVALUATION, (model,), trained[-1])
        stages.time(
            f"evaluate_dictionary, number {number} of a place",
            n_eval,
            held_out,
            evaluate_dictionary,
            evaluated,
        )
    mined = MineUnit(MiningConfig(), (model,), trained[0])
    stages.time("mine_examples", tokens.n_tokens, everything, mine_examples, mined)
    return stages.lines, sum(parameter.numel() for parameter in loaded.model.parameters())


def _forward(model: LanguageModel, tokens: Any, rows: slice) -> Callable[[], float]:
    """Seconds of a plain forward pass with logits over some sequences."""

    def run() -> float:
        begin = time.monotonic()
        with torch.inference_mode():
            for first in range(rows.start, rows.stop, ACTIVATIONS.batch_sequences):
                batch = slice(first, min(first + ACTIVATIONS.batch_sequences, rows.stop))
                model.model(**model_inputs(model, tokens, batch))
        return time.monotonic() - begin

    return run


def _model(folder: Path) -> Path:
    like = embedded_model_path("pico-a")
    shape = {**SHAPE, "num_key_value_heads": 12, "head_dim": 64}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(like, **shape))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(like).save_pretrained(folder)
    return folder
