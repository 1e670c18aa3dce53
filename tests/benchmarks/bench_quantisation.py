"""What int8 and int4 weights cost a model: error of the weights and of its predictions on held-out text.

Beside them stands the floor: the same model with redrawn weights, three seeds. The interval is of a bootstrap
over documents, paired with the full model. FEATLAS_BENCH_STORIES (a model folder) and FEATLAS_BENCH_ENGLISH
(a Parquet file of texts) add ``stories260k``.
"""

import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tasks.activations.corpora import CORPUS_SOURCES, corpus_table
from tasks.activations.models.embedded import embedded_model_path
from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model

CONTEXT = 256
MOST_TOKENS = 1_020
"""Tokens read of one document."""
EVAL_SHARE = 0.15
BATCH = 16
RESAMPLES = 2_000
SEEDS = (0, 1, 2)


class World(NamedTuple):
    """A model folder and the texts it is measured on."""

    name: str
    path: str
    corpus: dict[str, Any]


class Reading(NamedTuple):
    """What a model says of the texts, by document (N,)."""

    nats_N: Tensor
    """Cross-entropy, summed over the tokens of each document."""
    divergence_N: Tensor
    """Kullback-Leibler divergence from the full model's predictions, summed likewise."""
    n_tokens_N: Tensor


def main() -> str:
    """One line for each model and precision."""
    lines = [
        "| model | weights | error of the weights | CE, nats a token | ΔCE [95 %] | KL from full |",
        "|--|--|--|--|--|--|",
    ]
    for world in worlds():
        lines += rows(world)
    return "\n".join(lines)


def worlds() -> list[World]:
    """The embedded model on held-out modules, and ``stories260k`` on English text where both are given."""
    found = [World("pico-a", str(embedded_model_path("pico-a")), {"source": "stdlib"})]
    stories, english = os.environ.get("FEATLAS_BENCH_STORIES"), os.environ.get("FEATLAS_BENCH_ENGLISH")
    if stories and english:
        corpus = {"source": "parquet", "path": english, "text_column": "text", "max_documents": 3_000}
        found.append(World("stories260k", stories, corpus))
    return found


def rows(world: World) -> Iterator[str]:
    """The full model, its roundings, and the mean of the redrawn ones."""
    base = {"id": "base", "source": "local", "path": world.path}
    full = load_language_model(ModelConfig.model_validate(base), "cpu")
    documents = held_out(world, full)
    whole = read(full, full, documents)
    yield f"| {world.name} | as stored | 0 | {ce(whole):.4f} | 0 | 0 |"
    for bits in ("int8", "int4"):
        config = ModelConfig.model_validate({**base, "id": bits, "quantise": bits})
        model = load_language_model(config, "cpu")
        assert model.quantisation is not None
        reading, error = read(model, full, documents), math.sqrt(model.quantisation.error)
        yield f"| | {bits} | {error:.2%} | {ce(reading):.4f} | {change(reading, whole)} | {kl(reading):.2g} |"
    redrawn = []
    for seed in SEEDS:
        config = ModelConfig.model_validate(
            {"id": "drawn", "source": "reinitialised", "of": base, "seed": seed}
        )
        redrawn.append(read(load_language_model(config, "cpu"), full, documents))
    figures = [
        [ce(each) for each in redrawn],
        [ce(each) - ce(whole) for each in redrawn],
        [*map(kl, redrawn)],
    ]
    spans = " | ".join(f"{min(values):.2f} to {max(values):.2f}" for values in figures)
    yield f"| | redrawn, {len(SEEDS)} seeds | – | {spans} |"


def held_out(world: World, model: LanguageModel) -> list[list[int]]:
    """Token ids of the eval documents, at most `MOST_TOKENS` of each, without BOS."""
    config = CORPUS_SOURCES[world.corpus["source"]].Config.model_validate(world.corpus)
    table = corpus_table(config, EVAL_SHARE).table
    texts = zip(table["text"].to_pylist(), table["split"].to_pylist(), strict=True)
    kept = [text for text, split in texts if split == "eval"]
    encoded = model.tokenizer(kept, add_special_tokens=False).input_ids
    return [token_ids[:MOST_TOKENS] for token_ids in encoded if token_ids]


@torch.no_grad()
def read(model: LanguageModel, full: LanguageModel, documents: list[list[int]]) -> Reading:
    """Cross-entropy of every token in chunks that begin with BOS, and the divergence from ``full``."""
    width, bos = CONTEXT, model.spec.bos_token_id
    assert bos is not None
    chunks = [
        (number, token_ids[first : first + width])
        for number, token_ids in enumerate(documents)
        for first in range(0, len(token_ids), width)
    ]
    sums_N3 = torch.zeros(len(documents), 3, dtype=torch.float64)
    for first in range(0, len(chunks), BATCH):
        numbers, targets = zip(*chunks[first : first + BATCH], strict=True)
        targets_BT = torch.tensor([[*ids, *[-100] * (width - len(ids))] for ids in targets])
        inputs_BT = functional.pad(targets_BT[:, :-1].clamp_min(0), (1, 0), value=bos)
        said_BTV, meant_BTV = (each.model(inputs_BT).logits.log_softmax(-1) for each in (model, full))
        is_token_BT = targets_BT >= 0
        nats_BT = -said_BTV.gather(-1, targets_BT.clamp_min(0)[..., None])[..., 0] * is_token_BT
        divergence_BT = (meant_BTV.exp() * (meant_BTV - said_BTV)).sum(-1) * is_token_BT
        parts = [values_BT.sum(1).double() for values_BT in (nats_BT, divergence_BT, is_token_BT)]
        sums_N3.index_add_(0, torch.tensor(numbers), torch.stack(parts, dim=1))
    return Reading(*sums_N3.T)


def ce(reading: Reading) -> float:
    """Nats a token."""
    return float(reading.nats_N.sum() / reading.n_tokens_N.sum())


def kl(reading: Reading) -> float:
    """Nats a token."""
    return float(reading.divergence_N.sum() / reading.n_tokens_N.sum())


def change(reading: Reading, whole: Reading) -> str:
    """ΔCE with its interval over resampled documents."""
    generator = torch.Generator().manual_seed(0)
    n_documents = len(whole.nats_N)
    drawn_RN = torch.randint(n_documents, (RESAMPLES, n_documents), generator=generator)
    more_N = reading.nats_N - whole.nats_N
    means_R = more_N[drawn_RN].sum(1) / whole.n_tokens_N[drawn_RN].sum(1)
    low, high = torch.quantile(means_R, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return f"{float(more_N.sum() / whole.n_tokens_N.sum()):+.5f} [{low:+.5f}, {high:+.5f}]"
