"""The whole mining stage against "model forward + encode" alone, interleaved; memory against tokens."""

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tasks.activations.caching.cache import cache_activations
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model
from tasks.activations.reading.capture import capture
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.inputs import model_inputs
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.mining.codes import encode_batch
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine

HOOKPOINT = "blocks.2.resid_post"
ROUNDS = 3
BATCH = 32
SIZES = (20_000, 80_000)


def main() -> str:
    """One table: tokens per second of forward + encode and of mining, their ratio, peak memory."""
    model = load_language_model(ModelConfig(id="pico-a", source="embedded"), "cpu")
    corpus = corpus_table(CORPUS_SOURCES["stdlib"].Config(source="stdlib"), 0.1)
    lines = [
        "| tokens | latents | forward + encode, tokens/s | mining, tokens/s | ratio | peak MB |",
        "|--|--|--|--|--|--|",
    ]
    with TemporaryDirectory() as folder:
        lines += [_measure(model, corpus, n_tokens, Path(folder) / str(n_tokens)) for n_tokens in SIZES]
    return "\n".join(lines)


def _measure(model: LanguageModel, corpus: CorpusTable, n_tokens: int, folder: Path) -> str:
    config = ActivationsConfig(hookpoints=(HOOKPOINT,), context_length=128, n_tokens=n_tokens)
    activation_set = cache_activations(model, corpus, config, folder).open(HOOKPOINT)
    dictionary = _dictionary(activation_set)
    plain, mining = [], []
    for round_ in range(ROUNDS):
        plain.append(_seconds(lambda: _forward_and_encode(model, activation_set, dictionary)))
        scratch = folder / f"scratch-{round_}"
        mining.append(_seconds(lambda s=scratch: _mine(dictionary, activation_set, corpus, s)))
    n_valid = activation_set.n_valid_tokens()
    plain_rate, mining_rate = (n_valid / statistics.median(seconds) for seconds in (plain, mining))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {n_valid:,} | {dictionary.d_sae:,} | {plain_rate:,.0f} | {mining_rate:,.0f} "
        f"| {mining_rate / plain_rate:.2f} | {peak:,.0f} |"
    )


def _dictionary(activation_set: ActivationSet) -> Dictionary:
    fields = {"architecture": "topk", "expansion_factor": 8, "k": 16, "seed": 0, "n_tokens": 1_000}
    dictionary = build_dictionary(dictionary_config(fields), activation_set.d_in)
    sample = activation_set.read(activation_set.sequence_rows()[:64]).reshape(-1, activation_set.d_in)
    with torch.no_grad():
        dictionary.b_dec.copy_(torch.from_numpy(sample).float().mean(dim=0))
    return dictionary


def _forward_and_encode(model: LanguageModel, activation_set: ActivationSet, dictionary: Dictionary) -> None:
    tokens, rows = activation_set.tokens, activation_set.sequence_rows()
    for begin in range(0, len(rows), BATCH):
        part = rows[begin : begin + BATCH]
        values = capture(model, [HOOKPOINT], model_inputs(model, tokens, part))[HOOKPOINT]
        encode_batch(dictionary, values.numpy(), tokens.valid[part])


def _mine(dictionary: Dictionary, activation_set: ActivationSet, corpus: CorpusTable, scratch: Path) -> None:
    mined = mine(dictionary, activation_set, corpus.table, None, MiningConfig(), scratch)
    assert sum(batch.num_rows for batch in mined.examples)


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
