"""What TopK can do besides keeping k latents: the loss with 4 k, a k that falls in training, groups."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from catalog.errors import UserError
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.training_state import TrainingState
from tasks.training.trainer import train


def make(**changes: Any) -> tuple[Any, TrainingState]:
    fields = {"architecture": "topk", "d_sae": 40, "k": 3, "n_tokens": 1000, "aux_alpha": 0, **changes}
    dictionary = build_dictionary(dictionary_config(fields), 8).double()
    silent = torch.zeros(40, dtype=torch.int64)
    return dictionary, TrainingState(100, 100, 2.0, 3.0, 3.0, silent, torch.Generator())


def test_multi_topk_adds_the_unexplained_variance_with_four_times_as_many_latents() -> None:
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dictionary, state = make(multi_topk_weight=0.125)
    step = dictionary.training_loss(x, x, state)
    step.loss.backward()
    gradient = dictionary.W_enc.grad
    expected = torch.zeros((), dtype=torch.float64)
    dictionary.zero_grad()
    for k, weight in ((3, 1.0), (12, 0.125)):
        values, indices = dictionary.pre_acts(x).topk(k, dim=1)
        codes = torch.zeros(50, 40, dtype=torch.float64).scatter(1, indices, values.relu())
        fvu = (x - dictionary.decode(codes, x)).square().sum(dim=1).mean() / state.total_variance
        expected = expected + weight * fvu
        if k == 12:
            torch.testing.assert_close(step.parts["multi_topk_fvu"], fvu)
    expected.backward()
    torch.testing.assert_close(step.loss, expected)
    torch.testing.assert_close(gradient, dictionary.W_enc.grad)
    assert float(step.l0) <= 3, "what counts as active are the k latents"


def test_k_falls_from_d_in_within_the_share() -> None:
    dictionary, state = make(anneal_share=0.5)
    x = torch.randn(20, 8, dtype=torch.float64)
    kept = []
    for state.step in (0, 10, 25, 49, 50, 99):
        pairs, _ = dictionary.keep(x, state)
        kept.append(len(pairs.latents) // 20)
        assert torch.equal(pairs.latents, dictionary.select(dictionary.pre_acts(x), state).latents)
    assert kept == [8, 7, 5, 3, 3, 3]
    assert dictionary.encode_sparse(x)[0].shape == (20, 3), "inference keeps k"


@pytest.mark.parametrize("k", [3, 12])
def test_without_annealing_k_is_constant(k: int) -> None:
    dictionary, state = make(k=k)
    assert dictionary.k_now(state) == k


def test_one_per_group_keeps_the_largest_of_each_group() -> None:
    """Four latents, k = 2: each pair of neighbours gives its larger one, if that is positive."""
    dictionary, state = make(d_sae=4, k=2, one_per_group=True)
    pre = torch.tensor([[0.5, -1, 2, 1.5], [-0.25, 0.75, -0.5, -1], [3, 2, 1, 0.5]]).double()
    with torch.no_grad():
        dictionary.W_enc.zero_()
        dictionary.W_enc[:4].copy_(torch.eye(4))
    x = torch.cat([pre, torch.zeros(3, 4)], dim=1).double()
    kept = [[0.5, 0.0, 2.0, 0.0], [0.0, 0.75, 0.0, 0.0], [3.0, 0.0, 1.0, 0.0]]
    assert dictionary.encode(x).tolist() == kept
    with torch.no_grad():
        values, latents = dictionary.encode_sparse(x)
    assert values.tolist() == [[2.0, 0.5], [0.75, 0.0], [3.0, 1.0]], "largest first"
    assert latents.tolist() == [[2, 0], [1, 2], [0, 2]]
    pairs = dictionary.select(pre, state)
    assert torch.equal(pairs.dense(pre[pairs.tokens, pairs.latents].relu()), dictionary.encode(x))


def test_one_per_group_learns_by_the_latents_that_it_keeps() -> None:
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dictionary, state = make(k=4, one_per_group=True)
    dictionary.training_loss(x, x, state).loss.backward()
    gradients = {name: weight.grad for name, weight in dictionary.named_parameters()}
    dictionary.zero_grad()
    values, members = dictionary.pre_acts(x).reshape(50, 4, 10).max(dim=2)
    codes = torch.zeros(50, 4, 10, dtype=torch.float64)
    codes = codes.scatter(2, members.unsqueeze(2), values.relu().unsqueeze(2)).flatten(1)
    error = x - dictionary.decode(codes, x)
    (error.square().sum(dim=1).mean() / state.total_variance).backward()
    for name, weight in dictionary.named_parameters():
        torch.testing.assert_close(gradients[name], weight.grad, msg=name)


def test_one_per_group_finds_planted_directions(planted: Any, tmp_path: Path) -> None:
    fields = {"architecture": "topk", "d_sae": 48, "n_tokens": 80_000, "batch_tokens": 256, "lr": 4e-3}
    config = dictionary_config({**fields, "k": 2, "one_per_group": True})
    trained = train(config, HookpointActivations.of(planted), tmp_path, device="cpu", n_threads=1).dictionary
    x = planted.valid_tokens("eval")
    assert (trained.encode(x) > 0).reshape(len(x), 2, 24).sum(dim=2).max() == 1
    cosines = torch.from_numpy(planted.directions).float() @ trained.W_dec.T
    assert float(cosines.amax(dim=1).mean()) >= 0.9


def test_one_per_group_goes_with_a_fixed_k_that_divides_the_latents() -> None:
    with pytest.raises(UserError, match="40 latents do not fall into k = 3 equal groups"):
        make(k=3, one_per_group=True)
    for other in ({"multi_topk_weight": 0.1}, {"anneal_share": 0.2}):
        with pytest.raises(ValidationError, match="one_per_group fixes k"):
            make(k=4, one_per_group=True, **other)
    assert make(k=4, one_per_group=True)[0].config.name() == "topk-w40-k4-grouped-s0"
