"""What TopK can do besides keeping k latents: the loss with 4 k, and a k that falls in training."""

from typing import Any

import pytest
import torch

from tasks.dictionaries.base import TrainingState, build_dictionary, dictionary_config


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
