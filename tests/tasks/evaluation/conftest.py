"""A planted world with documents, words and labels, in memory: everything a suite may look at."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation.suite import Layer, Subject

CONTEXT = 16
D = 24


class LabelledActivations:
    """One document per sequence; direction 0 marks some tokens of label yes, direction 1 is a nuisance.

    Tokens are words: directions 2 to 4 carry their first letters (a, b, c), 5 to 19 the words themselves.
    """

    def __init__(self, n_documents: int = 160, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.d_in, self.context_length, self.n_sequences = D, CONTEXT, n_documents
        self.directions = np.linalg.qr(random.standard_normal((D, D)))[0]
        self.label = random.random(n_documents) < 0.5
        self.vocabulary = [f"{letter}{end}" for letter in "abc" for end in ("ka", "lo", "mi", "nu", "pe")]
        words = random.integers(0, len(self.vocabulary), (n_documents, CONTEXT))
        strength = random.uniform(1, 2, (n_documents, CONTEXT, 4))
        letter = words // 5
        values = (
            strength[..., :1] * self.directions[2 + letter] + strength[..., 1:2] * self.directions[5 + words]
        )
        marked = self.label[:, None, None] & (random.random((n_documents, CONTEXT, 1)) < 0.3)
        values += marked * strength[..., 2:3] * self.directions[0]
        values += random.uniform(0, 6, (n_documents, 1, 1)) * self.directions[1]
        self.values = (values + 0.02 * random.standard_normal(values.shape)).astype(np.float32)
        self.words = words
        self.texts = [" ".join(self.vocabulary[word] for word in row) for row in words]
        starts = np.concatenate([[0], np.cumsum([4] * (CONTEXT - 1))])
        shape = (n_documents, CONTEXT)
        self.tokens = SimpleNamespace(
            valid=np.ones(shape, bool),
            token_ids=words.astype(np.int32),
            document_index=np.broadcast_to(np.arange(n_documents)[:, None], shape),
            char_start=np.broadcast_to(starts, shape),
            char_end=np.broadcast_to(starts + 3, shape),
        )

    @property
    def labels(self) -> list[dict[str, str]]:
        return [{"answer": "yes" if label else "no"} for label in self.label]

    def sequence_rows(self, split: str) -> Any:
        n_train = self.n_sequences * 3 // 4
        return np.arange(n_train) if split == "train" else np.arange(n_train, self.n_sequences)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def dictionary_of(directions: np.ndarray, k: int, encoder: np.ndarray | None = None) -> Dictionary:
    """A TopK dictionary whose latents read and write these unit rows; another encoder if given."""
    settings = {"architecture": "topk", "k": k, "d_sae": len(directions), "n_tokens": 1}
    dictionary = build_dictionary(dictionary_config(settings), directions.shape[1]).requires_grad_(False)
    dictionary.W_dec.copy_(torch.from_numpy(directions).float())
    dictionary.W_enc.copy_(torch.from_numpy(directions if encoder is None else encoder).float().T)
    return dictionary


@pytest.fixture(scope="session")
def make_dictionary() -> Callable[..., Dictionary]:
    return dictionary_of


@pytest.fixture(scope="session")
def world() -> LabelledActivations:
    return LabelledActivations()


@pytest.fixture
def subject(world: LabelledActivations, tmp_path: Path) -> Subject:
    """The true dictionary of the world: every direction is a latent."""
    return Subject(
        dictionary_of(world.directions, 4),
        HookpointActivations.of(world),
        tmp_path,
        world.texts,
        world.labels,
        frozenset({0}),
        layers=[Layer("blocks.0.resid_post", world), Layer("blocks.1.resid_post", world)],
    )


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
