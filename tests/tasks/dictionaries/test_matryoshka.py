"""Matryoshka: sparse prefixes against dense ones, sizes of groups, and what the first group learns."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from catalog.errors import UserError
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.training_state import TrainingState
from tasks.training.trainer import train


def config_of(**fields: Any) -> DictionaryConfig:
    base = {"architecture": "matryoshka_batch_topk", "d_sae": 48, "n_tokens": 1, "k": 3}
    return dictionary_config({**base, **fields})


def test_gradients_of_sparse_prefixes_are_those_of_dense_ones(planted: Any) -> None:
    dictionary: Any = build_dictionary(config_of(aux_alpha=0), 16).double()
    state = TrainingState(10, 100, 3.0, 4.0, 4.0, torch.zeros(48).long(), torch.Generator())
    x = planted.valid_tokens("train")[:90].double()
    result = dictionary.training_loss(x, x, state)
    result.loss.backward()
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    p = {name: getattr(dictionary, name).detach().clone().requires_grad_() for name in names}
    acts = ((x - p["b_dec"]) @ p["W_enc"] + p["b_enc"]).relu()
    codes = acts * (acts >= acts.detach().flatten().topk(3 * 90).values[-1])
    ends = [3, 6, 12, 24, 48]
    errors = [x - codes[:, :end] @ p["W_dec"][:end] - p["b_dec"] for end in ends]
    loss = torch.stack([error.square().sum(1).mean() for error in errors]).mean() / 3.0
    loss.backward()
    assert float(result.loss.detach()) == pytest.approx(float(loss.detach()))
    assert float(result.sse) == pytest.approx(float(errors[-1].detach().square().sum(1).mean()))
    for name in names:
        torch.testing.assert_close(getattr(dictionary, name).grad, p[name].grad)


def test_groups_cover_all_latents_and_are_written_to_the_catalogue() -> None:
    dictionary: Any = build_dictionary(config_of(d_sae=50, group_shares=(1 / 3, 1 / 3, 1 / 3)), 16)
    assert dictionary.group_sizes == [17, 16, 17]
    assert dictionary.feature_columns()["feature_group"] == [0] * 17 + [1] * 16 + [2] * 17


def test_groups_that_cannot_work_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValidationError, match="positive and add up to 1"):
        config_of(group_shares=(0.5, 0.4))
    with pytest.raises(UserError, match="7 latents are too few for the groups"):
        build_dictionary(config_of(d_sae=7, k=2), 16)


class Families:
    """Each of four parents fires with one of its four children: x = parent + 0.5 child, orthogonal."""

    d_in, context_length, n_sequences = 24, 32, 160

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.directions = np.linalg.qr(random.standard_normal((24, 24)))[0][:20]
        parent = random.integers(0, 4, self.n_sequences * 32)
        child = 4 + 4 * parent + random.integers(0, 4, len(parent))
        strength = random.uniform(1, 2, (len(parent), 1))
        x = strength * (self.directions[parent] + 0.5 * self.directions[child])
        self.values = x.reshape(self.n_sequences, 32, 24).astype(np.float32)
        self.tokens = SimpleNamespace(valid=np.ones((self.n_sequences, 32), dtype=bool))

    def sequence_rows(self, split: str) -> Any:
        return np.arange(150) if split == "train" else np.arange(150, 160)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def test_the_first_group_learns_the_parents(tmp_path: Any) -> None:
    """A group of eight among 32 has to explain most by itself: parents do. Without groups they get mixed."""
    data = Families()
    parents, children = {}, {}
    for name, shares in (("nested", (0.25, 0.75)), ("flat", (1.0,))):
        sizes = {"d_sae": 32, "k": 2, "n_tokens": 80_000, "batch_tokens": 256, "lr": 4e-3, "aux_k": 4}
        config = config_of(group_shares=shares, **sizes)
        found = train(config, data, tmp_path / name, device="cpu", n_threads=1).dictionary
        cosines = found.W_dec.numpy() @ data.directions.T
        parents[name], children[name] = cosines[:8, :4].max(axis=0).mean(), cosines[:, 4:].max(axis=0).mean()
    assert parents["nested"] > 0.85
    assert parents["flat"] < 0.7
    assert children["nested"] > children["flat"] + 0.1
