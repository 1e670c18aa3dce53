"""The sparse path against plain dense torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dictionaries.sparse_codes import (
    Pairs,
    pairs_of_mask,
    pairs_per_token,
    selected_acts,
    top_of_batch,
    top_per_token,
)
from tests.searching import examples


def dense_reference(
    x: torch.Tensor, weights: list[torch.Tensor], mask: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    W_enc, b_enc, W_dec, b_dec = (weight.clone().requires_grad_() for weight in weights)
    codes = ((x - b_dec) @ W_enc + b_enc).relu() * mask
    loss = (x - b_dec - codes @ W_dec).pow(3).sum()
    loss.backward()
    return loss, [parameter.grad for parameter in (W_enc, b_enc, W_dec, b_dec)]


@pytest.mark.parametrize("ragged", [False, True])
def test_sparse_gradients_equal_dense_autograd(ragged: bool) -> None:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(40, 6, generator=random, dtype=torch.float64, requires_grad=True)
    shapes = ((6, 20), (20,), (20, 6), (6,))
    weights = [torch.randn(*shape, generator=random, dtype=torch.float64) for shape in shapes]
    pre = (x.detach() - weights[3]) @ weights[0] + weights[1]
    if ragged:
        pairs = pairs_of_mask(pre > 4.0)
        assert (torch.bincount(pairs.tokens, minlength=40) == 0).any(), "some tokens keep nothing"
    else:
        pairs = pairs_per_token(torch.topk(pre, 12, dim=1).indices, 20)
        assert (pre[pairs.tokens, pairs.latents] < 0).any(), "some kept values are negative before ReLU"
    mask = torch.zeros(40, 20, dtype=torch.float64)
    mask[pairs.tokens, pairs.latents] = 1
    W_enc, b_enc, W_dec, b_dec = (weight.clone().requires_grad_() for weight in weights)
    acts = selected_acts(
        x.detach() - b_dec.detach(), W_enc, b_enc, b_dec, pre[pairs.tokens, pairs.latents], pairs
    )
    loss = (x.detach() - b_dec - pairs.decode(acts, W_dec)).pow(3).sum()
    loss.backward()
    expected_loss, expected = dense_reference(x.detach(), weights, mask)
    torch.testing.assert_close(loss, expected_loss)
    for parameter, gradient in zip((W_enc, b_enc, W_dec, b_dec), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_gradient_reaches_the_input_where_it_is_wanted() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    W_enc, b = torch.randn(3, 8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    pre = x.detach() @ W_enc
    pairs = pairs_per_token(torch.topk(pre, 2, dim=1).indices, 8)
    pre_P = pre[pairs.tokens, pairs.latents]
    selected_acts(x, W_enc, b, torch.zeros(3, dtype=torch.float64), pre_P, pairs).square().sum().backward()
    z = x.detach().requires_grad_()
    torch.topk((z @ W_enc), 2, dim=1).values.relu().square().sum().backward()
    torch.testing.assert_close(x.grad, z.grad)


@given(
    st.integers(0, 2**31),
    st.sampled_from([(7, 16, 1), (9, 256, 4), (5, 1024, 16), (3, 1024, 15), (4, 33, 33)]),
)
@settings(max_examples=examples(40), deadline=None)
def test_two_stage_top_k_is_exact(seed: int, sizes: tuple[int, int, int]) -> None:
    n_tokens, n_latents, k = sizes
    pre = torch.randn(n_tokens, n_latents, generator=torch.Generator().manual_seed(seed))
    values, indices = top_per_token(pre, k)
    assert torch.equal(values, torch.topk(pre, k, dim=1).values)
    assert torch.equal(values, pre.gather(1, indices))
    assert all(len(set(row.tolist())) == k for row in indices)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_of_a_row_carry_gradients(dtype: torch.dtype) -> None:
    pre = torch.randn(6, 50, generator=torch.Generator().manual_seed(1), dtype=dtype, requires_grad=True)
    values, indices = top_per_token(pre, 4)
    values.square().sum().backward()
    expected = torch.zeros_like(pre).scatter(1, indices, 2 * values.detach())
    assert pre.grad is not None
    torch.testing.assert_close(pre.grad, expected)


@given(st.integers(0, 2**31), st.integers(1, 60), st.floats(0, 3))
@settings(max_examples=examples(60), deadline=None)
def test_top_of_batch_is_exact_for_every_guess(seed: int, n_keep: int, floor: float) -> None:
    acts = torch.randn(6, 20, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    pairs = top_of_batch(acts, n_keep, floor)
    kept = acts[pairs.tokens, pairs.latents]
    expected = torch.topk(acts.flatten(), n_keep).values
    assert torch.equal(kept.sort(descending=True).values, expected[expected > 0])
    without_guess = top_of_batch(acts, n_keep)
    assert torch.equal(pairs.tokens, without_guess.tokens)
    assert torch.equal(pairs.latents, without_guess.latents)
    assert torch.equal(pairs.starts, torch.searchsorted(pairs.tokens, torch.arange(6)))


def test_ties_at_the_border_go_to_the_earlier_entry() -> None:
    pairs = top_of_batch(torch.tensor([[1.0, 2.0, 1.0], [1.0, 3.0, 1.0]]), 4)
    assert pairs.tokens.tolist() == [0, 0, 0, 1]
    assert pairs.latents.tolist() == [0, 1, 2, 1]


def test_dense_and_fired() -> None:
    pairs = Pairs(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), torch.tensor([0, 2, 2]), 4)
    values = torch.tensor([2.0, 0.0, 1.0])
    assert pairs.dense(values).tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert pairs.fired(values).tolist() == [True, True, False, False]
