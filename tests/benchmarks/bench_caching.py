"""Caching against a plain forward pass that stops at the same layer, interleaved, tokens per second."""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.embedded import embedded_model_path
from tasks.activations.models.language_model import LanguageModel, load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet

REPEATS = 3
N_TOKENS = 25_000
CONTEXT = 128
BATCH = 32
HOOKPOINTS = {
    "1 hookpoint": ("blocks.3.resid_post",),
    "4 hookpoints": ("blocks.1.resid_post", "blocks.2.resid_post", "blocks.3.mlp_out", "blocks.3.resid_post"),
}


class _Stop(Exception):
    """Ends the plain forward pass."""


def main() -> str:
    """The ratios as a Markdown table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = _model(folder / "model")
        corpus = corpus_table(CORPUS_SOURCES["stdlib"].Config(source="stdlib"), 0.1)
        lines = [
            f"Llama, width 384, 6 blocks, stopped after block 3; context {CONTEXT}, {N_TOKENS} tokens, "
            f"{torch.get_num_threads()} threads, median of {REPEATS} interleaved runs.",
            "",
            "| what | plain forward tokens/s | caching tokens/s | ratio |",
            "|--|--|--|--|",
        ]
        for label, hookpoints in HOOKPOINTS.items():
            lines += _compare(model, corpus, hookpoints, folder / label.replace(" ", "-"), label)
    return "\n".join(lines)


def _model(folder: Path) -> LanguageModel:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(embedded_model_path("pico-a"))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=512,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_language_model(ModelConfig(id="bench", source="local", path=str(folder)), "cpu")


def _compare(
    model: LanguageModel, corpus: CorpusTable, hookpoints: tuple[str, ...], folder: Path, label: str
) -> list[str]:
    """Time whole runs of the stage, and the part after packing: a rerun with the tokens there."""
    config = ActivationsConfig(
        hookpoints=hookpoints,
        context_length=CONTEXT,
        n_tokens=N_TOKENS,
        batch_sequences=BATCH,
        dtype="float16",
        shard_mebibytes=4,
    )
    token_ids = torch.from_numpy(
        cache_activations(model, corpus, config, folder / "warm").open(hookpoints[0]).tokens.token_ids.copy()
    ).long()
    plain, whole, shards = [], [], []
    for repeat in range(REPEATS):
        plain.append(_plain_seconds(model, token_ids))
        scratch = folder / str(repeat)
        whole.append(_seconds(model, corpus, config, scratch))
        for pattern in ("shard-*", "index.json"):
            for path in scratch.rglob(pattern):
                path.unlink()
        shards.append(_seconds(model, corpus, config, scratch))
    n_tokens = token_ids.numel()
    rows = []
    for what, seconds in (("tokens packed before", shards), ("whole stage", whole)):
        ratio = statistics.median(p / s for p, s in zip(plain, seconds, strict=True))
        speeds = [n_tokens / statistics.median(values) for values in (plain, seconds)]
        rows.append(f"| {label}, {what} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {ratio:.3f} |")
    return rows


def _seconds(model: LanguageModel, corpus: CorpusTable, config: ActivationsConfig, scratch: Path) -> float:
    start = time.perf_counter()
    cached = cache_activations(model, corpus, config, scratch)
    seconds = time.perf_counter() - start
    assert isinstance(cached.open(config.hookpoints[0]), ActivationSet)
    return seconds


def _plain_seconds(model: LanguageModel, token_ids: Tensor) -> float:
    """Nothing but forward passes; one hook that stops them after the block of the last hookpoint."""

    def stop(_module: nn.Module, _args: object, _output: object) -> None:
        raise _Stop

    handle = model.model.get_submodule("model.layers.3").register_forward_hook(stop)
    start = time.perf_counter()
    with torch.no_grad():
        for batch in token_ids.split(BATCH):
            try:
                model.model(batch, use_cache=False)
            except _Stop:
                continue
    seconds = time.perf_counter() - start
    handle.remove()
    return seconds
