"""Activations with planted directions in memory, a small cached activation set, the golden vectors."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tasks.activations.cache import ActivationsConfig, cache_activations
from tasks.activations.corpora import CorpusTable
from tasks.activations.corpora.table import CORPUS_SCHEMA
from tasks.activations.embedded import EMBEDDED_MODELS
from tasks.activations.language_model import LanguageModel, ModelConfig, load_language_model
from tasks.activations.shards import ActivationSet

HOOKPOINT = "blocks.1.resid_post"
GOLDEN = Path(__file__).parents[2] / "golden" / "dictionaries.json"


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
def golden() -> dict[str, Any]:
    return dict(json.loads(GOLDEN.read_text()))


@pytest.fixture(scope="session")
def language_model() -> LanguageModel:
    return load_language_model(ModelConfig(id=EMBEDDED_MODELS[0], source="embedded"), "cpu")


@pytest.fixture(scope="session")
def activation_set(language_model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> ActivationSet:
    """The sources of this package as a corpus: every fourth file is for evaluation."""
    files = sorted((Path(__file__).parents[3] / "tasks" / "dictionaries").rglob("*.py"))
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
