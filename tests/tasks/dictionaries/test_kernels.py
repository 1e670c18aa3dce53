"""The compiled kernels against plain torch: the same selection, the same sums."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dictionaries import sparse_codes, sparse_encoding
from tasks.dictionaries.kernels import native
from tasks.dictionaries.kernels.native import kernels_for
from tasks.dictionaries.kernels.products import product, token_slices
from tasks.dictionaries.sparse_codes import Pairs, smallest_kept, top_per_token
from tasks.dictionaries.sparse_encoding import encode_above, encode_top, encode_top_of_batch
from tests.searching import examples
from tests.tasks.dictionaries.plain_torch import without_kernels

ROOT = Path(__file__).parents[3]
needs_kernels = pytest.mark.skipif(not native.describe()[0], reason=f"kernels: {native.describe()[1]}")


def random_values(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ragged_pairs(seed: int, n_tokens: int = 37, n_latents: int = 70) -> tuple[Pairs, torch.Tensor]:
    values = random_values(n_tokens, n_latents, seed=seed)
    values[3] = -1  # a token without a pair
    values[:, 5] = -1  # a latent without one
    mask = values > 0.8
    return sparse_codes.pairs_of_mask(mask), values[mask]


@needs_kernels
@given(st.integers(0, 2**31), st.sampled_from([(1, 1, 1), (19, 64, 3), (33, 700, 32), (5, 130, 130)]))
@settings(max_examples=examples(30), deadline=None)
def test_top_of_rows_equals_torch(seed: int, sizes: tuple[int, int, int]) -> None:
    n_tokens, n_latents, k = sizes
    pre = random_values(n_tokens, n_latents, seed=seed).round(decimals=1)  # with ties
    values, latents = top_per_token(pre, k)
    assert torch.equal(values, torch.topk(pre, k, dim=1).values)
    assert torch.equal(values, pre.gather(1, latents))
    earlier_first = torch.sort(pre, dim=1, descending=True, stable=True).indices[:, :k]
    assert torch.equal(latents, earlier_first), "of equal values the earlier latent is kept"


@needs_kernels
def test_smallest_kept_equals_torch() -> None:
    pre = random_values(20, 90, seed=3)
    pre[4] = -1
    pre[5, 10:] = -1
    found = smallest_kept(pre, 30)
    with without_kernels():
        assert torch.equal(found, smallest_kept(pre, 30))
    assert found[4] == found[5] == 0
    assert torch.equal(found[0], torch.topk(pre[0], 30).values[-1])


@needs_kernels
def test_rows_of_any_order_are_exact() -> None:
    """Each row guesses from the one before: a guess that is too high must cost time alone."""
    rows = torch.stack([s * random_values(512, seed=9) for s in (100.0, 1e-3, -5.0, 0.0, 1e6, 1.0)])
    assert torch.equal(top_per_token(rows, 20)[0], torch.topk(rows, 20, dim=1).values)


@needs_kernels
def test_values_that_are_not_finite_stay_visible() -> None:
    rows = torch.full((2, 100), torch.nan)
    rows[1] = 1.0
    rows[1, 50] = torch.inf
    values, latents = top_per_token(rows, 4)
    assert values[0].isnan().all()
    assert values[1].tolist() == [torch.inf, 1, 1, 1]
    assert latents[1].tolist() == [50, 0, 1, 2]


@needs_kernels
def test_sums_and_gradients_equal_torch() -> None:
    pairs, values = ragged_pairs(seed=1)
    rows, directions = random_values(37, 19, seed=2), random_values(70, 19, seed=3)

    def results() -> list[torch.Tensor]:
        fresh = Pairs(pairs.tokens, pairs.latents, pairs.starts, pairs.n_latents)
        order, bounds = fresh.by_latent
        sums = [fresh.sum_per_latent(rows, values), fresh.sum_per_token(directions, values)]
        return [order, bounds, *sums, *fresh.gradients(rows, directions, values)]

    found = results()
    with without_kernels():
        expected = results()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert found[2][5].abs().sum() == 0
    assert found[3][3].abs().sum() == 0


@needs_kernels
@pytest.mark.parametrize(
    "encode",
    [
        lambda x, W, b: encode_top(x, W, b, 7),
        lambda x, W, b: (lambda found: (found[1], found[0].dense(found[1])))(encode_above(x, W, b, 0.5)),
        lambda x, W, b: (lambda found: (found[1], found[0].dense(found[1])))(
            encode_top_of_batch(x, W, b, 200, 99.0)
        ),
    ],
    ids=["top", "above", "batch"],
)
def test_encoding_equals_torch(
    encode: Callable[..., tuple[torch.Tensor, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_encoding, "token_slices", lambda x, n: [slice(0, 16), slice(16, 41)])
    x, W, b = random_values(41, 6, seed=4), random_values(6, 80, seed=5), random_values(80, seed=6)
    found = encode(x, W, b)
    with without_kernels():
        expected = encode(x, W, b)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    pairs, values = ragged_pairs(seed=7, n_tokens=300)
    rows, pre = random_values(300, 24, seed=8), random_values(300, 640, seed=9)
    n_threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            results.append([pairs.sum_per_latent(rows, values), *top_per_token(pre, 5)])
    finally:
        torch.set_num_threads(n_threads)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_an_installation_goes_on_without_a_compiler() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (module,) = pyproject["tool"]["setuptools"]["ext-modules"]
    assert module["name"] == native.__name__.replace(".native", "._native")
    assert module["optional"] is True
    assert all((ROOT / source).is_file() for source in module["sources"])


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "VERSION", -1)
    kernels, detail = native._load.__wrapped__()
    assert kernels is None
    assert "not -1" in detail or "not built" in detail


def test_kernels_serve_float32_alone_and_can_be_left_out() -> None:
    assert kernels_for(torch.zeros(1, dtype=torch.float64)) is None
    with without_kernels():
        assert kernels_for(torch.zeros(1)) is None


@needs_kernels
def test_a_view_with_gaps_is_refused() -> None:
    kernels = kernels_for()
    assert kernels is not None
    with pytest.raises(ValueError, match="not contiguous"):
        kernels.call("order_by_latent", torch.arange(10)[::2], 5, 10, torch.empty(5), torch.empty(11))


@pytest.mark.parametrize("transposed", [False, True])
def test_product_equals_matmul_whatever_the_strides(transposed: bool) -> None:
    a = random_values(48, 31, seed=1).T if transposed else random_values(31, 48, seed=1)
    b = random_values(17, 48, seed=2).T if transposed else random_values(48, 17, seed=2)
    bias = random_values(17, seed=3)
    torch.testing.assert_close(product(a, b, bias), a @ b + bias)
    torch.testing.assert_close(product(a, b), a @ b)


def test_product_has_a_graph_where_one_is_wanted() -> None:
    a, b = random_values(4, 5, seed=1), random_values(5, 3, seed=2).requires_grad_()
    product(a, b).sum().backward()
    assert b.grad is not None
    torch.testing.assert_close(b.grad, a.sum(dim=0).unsqueeze(1).expand(5, 3))
    with torch.no_grad():
        assert not product(a, b).requires_grad


def test_slices_cover_a_batch_once() -> None:
    x = torch.empty(1000, 1)
    rows = [row for part in token_slices(x, 1 << 16) for row in range(*part.indices(1000))]
    assert rows == list(range(1000))
    assert next(token_slices(x, 1 << 30)) == slice(0, 8), "never fewer than eight tokens"
