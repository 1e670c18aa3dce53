"""Dictionaries trained for a moment on an embedded model, as the neutral record of a foreign file."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.stream import sample_tokens
from tasks.dictionaries.training_state import TrainingState
from tasks.foreign.record import Foreign
from tasks.foreign.sample import Hookpoints, Sample, gather_sample
from tasks.training.calibration import geometric_median

HOOKPOINTS = Hookpoints.of(("blocks.1.resid_post",))


def train_briefly(x: torch.Tensor, steps: int, **fields: Any) -> Dictionary:
    """Some steps of Adam on tokens ``x`` (N, D): enough to be far better than chance."""
    torch.manual_seed(0)
    dictionary = build_dictionary(dictionary_config({"n_tokens": 1, "lr": 3e-3, **fields}), x.shape[1])
    dictionary.b_dec.data.copy_(geometric_median(x[:2000]))
    variance = float((x - x.mean(dim=0)).square().sum(dim=1).mean())
    norm = float(x.norm(dim=1).mean())
    fired = torch.zeros(dictionary.d_sae, dtype=torch.int64)
    state = TrainingState(steps, 10**9, variance, norm, norm, fired, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(dictionary.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = x[torch.randint(0, len(x), (512,))]
        result = dictionary.training_loss(batch, batch, state)
        optimiser.zero_grad()
        result.loss.backward()
        optimiser.step()
        dictionary.normalise_decoder()
        state.count(result.fired, len(batch))
    dictionary.after_training(x[:2000])
    return dictionary.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def sample(language_model: LanguageModel, activation_set: ActivationSet) -> Sample:
    return gather_sample(language_model, activation_set.tokens, HOOKPOINTS, 2_000)


@pytest.fixture(scope="session")
def trained(activation_set: ActivationSet) -> Callable[..., Foreign]:
    """Train on the hookpoint of the activation set; kept, so that each dictionary is trained once."""
    x = sample_tokens(activation_set, "train", 12_000)
    x = x / x.std()  # the activations of a small model are small: Adam's step is not
    known: dict[str, Foreign] = {}

    def train(architecture: str, d_sae: int, k: int = 8, steps: int = 250) -> Foreign:
        name = f"{architecture} {d_sae} {k}"
        if name not in known:
            scale = float(sample_tokens(activation_set, "train", 12_000).std())
            dictionary = train_briefly(x, steps, architecture=architecture, d_sae=d_sae, k=k)
            one = torch.full((dictionary.d_in,), 1 / scale)
            dictionary.fold_scale(one, one)
            state = dictionary.state_dict()
            known[name] = Foreign(
                source="file",
                activation="topk" if architecture == "topk" else "batch_topk",
                W_enc=state["W_enc"],
                W_dec=state["W_dec"],
                b_enc=state["b_enc"],
                b_dec=state["b_dec"],
                threshold=state.get("threshold"),
                k=k,
            )
        return known[name]

    return train
