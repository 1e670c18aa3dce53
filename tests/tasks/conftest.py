"""Activations with planted directions in memory, a small cached activation set, the golden vectors."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.corpora import CorpusTable
from tasks.activations.corpora.table import CORPUS_SCHEMA
from tasks.activations.models.embedded import EMBEDDED_MODELS
from tasks.activations.models.language_model import LanguageModel, ModelConfig, ModelSpec, load_language_model
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import read_valid

HOOKPOINT = "blocks.1.resid_post"
GOLDEN = Path(__file__).parents[1] / "golden" / "dictionaries.json"
SOURCES = Path(__file__).parents[2] / "tasks"
ROOMS = ("dictionaries", "foreign", "measures", "training")


class PlantedActivations:
    """Every token is the sum of two planted unit directions with strengths in [1, 2], and a constant.

    Offers what training and evaluation read of an activation set.
    """

    def __init__(
        self, *, d_in: int = 16, n_directions: int = 32, n_sequences: int = 300, seed: int = 0
    ) -> None:
        random = np.random.default_rng(seed)
        self.d_in, self.context_length, self.n_sequences = d_in, 32, n_sequences
        self.directions = spread_directions(random, n_directions, d_in)
        n_tokens = n_sequences * self.context_length
        x = np.full((n_tokens, d_in), 0.5)
        for _ in range(2):
            chosen = self.directions[random.integers(0, n_directions, n_tokens)]
            x += random.uniform(1, 2, (n_tokens, 1)) * chosen
        self.values = x.reshape(n_sequences, self.context_length, d_in).astype(np.float16)
        valid = np.ones((n_sequences, self.context_length), dtype=bool)
        valid[:, 0] = False
        self.tokens = SimpleNamespace(valid=valid)

    def sequence_rows(self, split: str) -> Any:
        n_train = self.n_sequences * 9 // 10
        return np.arange(n_train) if split == "train" else np.arange(n_train, self.n_sequences)

    def read(self, rows: Any) -> Any:
        return self.values[rows]

    def valid_tokens(self, split: str) -> torch.Tensor:
        rows = self.sequence_rows(split)
        return torch.from_numpy(self.values[rows][self.tokens.valid[rows]]).float()


class PlantedHookpoint:
    """One hookpoint of several: the same strengths of the same latents, along directions of its own."""

    def __init__(self, strengths_ST: Any, directions: Any, like: PlantedActivations, offset: float) -> None:
        self.d_in, self.context_length, self.n_sequences = 16, like.context_length, like.n_sequences
        self.tokens, self.sequence_rows = like.tokens, like.sequence_rows
        self.values = (strengths_ST @ directions + offset).astype(np.float16)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


@dataclass(frozen=True)
class Planted:
    """What a dictionary learns from, and what it should find: unit rows of all that a latent writes."""

    activations: HookpointActivations
    directions: np.ndarray[Any, Any]
    read_directions: np.ndarray[Any, Any] | None = None
    """Of a transcoder: along what each latent is seen in the input."""

    def valid(self, split: Any, n: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets of the first ``n`` valid tokens of a split."""
        rows = self.activations.sequence_rows(split)
        return self.activations.split(read_valid(self.activations, rows)[:n].float())


def planted_hookpoints(kind: str, like: PlantedActivations) -> Planted:
    """Two latents on every token, one of either half of 32, seen at two to four hookpoints of width 16.

    ``transcoder``: read at one, written to another. ``crosscoder``: read and written at two.
    ``layers``: the first half is read at layer 0 and written to layers 0 and 1, the other at layer 1 alone.
    """
    random = np.random.default_rng(1)
    n_tokens = like.n_sequences * like.context_length
    strengths = np.zeros((n_tokens, 32))
    for half in (0, 16):
        strengths[np.arange(n_tokens), random.integers(half, half + 16, n_tokens)] = random.uniform(
            1, 2, n_tokens
        )
    strengths = strengths.reshape(like.n_sequences, like.context_length, 32)
    along = [spread_directions(random, 32, 16) for _ in range(3)]
    first, second = np.arange(32)[:, None] < 16, np.arange(32)[:, None] >= 16

    def one(directions: Any, offset: float = 0.5) -> PlantedHookpoint:
        return PlantedHookpoint(strengths, directions, like, offset)

    if kind == "transcoder":
        return Planted(HookpointActivations([one(along[0])], [one(along[1], -0.3)]), along[1], along[0])
    if kind == "crosscoder":
        both = np.concatenate(along[:2], axis=1) / np.sqrt(2)
        return Planted(HookpointActivations([one(along[0]), one(along[1], -0.3)]), both)
    to_later = along[1] * first / np.sqrt(2) + along[2] * second
    reads = [one(along[0] * first), one(along[0] * second)]
    writes = [one(along[0] * first), one(to_later * np.where(first, np.sqrt(2), 1))]
    return Planted(
        HookpointActivations(reads, writes), np.concatenate([along[0] * first / np.sqrt(2), to_later], axis=1)
    )


def spread_directions(random: np.random.Generator, n: int, d: int) -> np.ndarray[Any, Any]:
    """Unit vectors pushed apart until no two are close (largest cosine about 0.3 for 32 in 16)."""
    rows = random.standard_normal((n, d))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for _ in range(500):
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, 0)
        rows -= 0.05 * cosines**3 @ rows
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


@pytest.fixture(scope="session")
def planted() -> PlantedActivations:
    return PlantedActivations()


@pytest.fixture(scope="session")
def planted_for(planted: PlantedActivations) -> Callable[[str], Planted]:
    """Planted activations for an architecture, at as many hookpoints as its example reads and writes."""
    single = Planted(HookpointActivations.of(planted), planted.directions)

    @cache
    def by_kind(kind: str) -> Planted:
        return planted_hookpoints(kind, planted) if kind else single

    def choose(name: str) -> Planted:
        example = ARCHITECTURES[name].Config.example
        n_reads, n_writes = len(example.get("reads", ())), len(example.get("writes", ()))
        kinds = {(0, 0): "", (1, 0): "", (1, 1): "transcoder", (2, 0): "crosscoder", (2, 2): "layers"}
        return by_kind(kinds[n_reads, n_writes])

    return choose


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text()))


@pytest.fixture(scope="session")
def language_model() -> LanguageModel:
    return load_language_model(ModelConfig(id=EMBEDDED_MODELS[0], source="embedded"), "cpu")


@pytest.fixture(scope="session")
def as_language_model() -> Callable[..., LanguageModel]:
    """Wrap a small causal network of Transformers, without a tokenizer."""

    def wrap(network: Any, model_id: str = "small") -> LanguageModel:
        config = network.config
        spec = ModelSpec(
            model_id=model_id,
            source="local",
            revision=None,
            architecture=config.model_type,
            n_layers=config.num_hidden_layers,
            d_model=config.hidden_size,
            vocab_size=config.vocab_size,
            max_context=None,
            n_parameters=0,
            tokenizer_digest="",
            weights_digest="",
            is_causal=True,
            bos_token_id=0,
            eos_token_id=1,
            mask_token_id=None,
        )
        return LanguageModel(spec, network.eval().requires_grad_(False), None, torch.device("cpu"))

    return wrap


@pytest.fixture(scope="session")
def activation_set(language_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> ActivationSet:
    """Sources of this package as a corpus: every fourth file is for evaluation."""
    files = sorted(path for room in ROOMS for path in (SOURCES / room).rglob("*.py"))
    rows = [
        {
            "document_id": path.name,
            "split": "eval" if number % 4 == 0 else "train",
            "n_chars": len(path.read_text()),
            "text": path.read_text(),
            "labels": [],
        }
        for number, path in enumerate(files)
    ]
    corpus = CorpusTable(pa.Table.from_pylist(rows, schema=CORPUS_SCHEMA), "text", "-", "0" * 64, 0, 0)
    config = ActivationsConfig(hookpoints=(HOOKPOINT,), context_length=64, n_tokens=15_000, eval_share=0.2)
    return cache_activations(language_model, corpus, config, tmp_path_factory.mktemp("cache")).open(HOOKPOINT)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
