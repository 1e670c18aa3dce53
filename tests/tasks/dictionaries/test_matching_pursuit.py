"""Matching pursuit: energy, gradient through all steps, stopping rules, more steps at inference."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import nnls

from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.families import pursuit
from tasks.dictionaries.families.pursuit import pursue, pursue_orthogonally, pursued_residual
from tasks.dictionaries.training_state import TrainingState


def unit_rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def build(k: int = 4, **fields: Any) -> Any:
    base = {"architecture": "matching_pursuit", "d_sae": 48, "n_tokens": 1, "k": k}
    return build_dictionary(dictionary_config({**base, **fields}), 16).double().requires_grad_(False)


def naive(x_ND: torch.Tensor, W_dec: torch.Tensor, n_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense codes and residual, one token after the other, every operation recorded by autograd."""
    codes, residuals = [], []
    for r in x_ND:
        norm = float(r.detach().norm())
        code = torch.zeros(len(W_dec), dtype=r.dtype)
        for _ in range(n_steps):
            products = W_dec @ r
            best = int(products.argmax())
            if products[best] <= 1e-14 * norm:
                break
            code = code + products[best] * torch.eye(len(W_dec), dtype=r.dtype)[best]
            r = r - products[best] * W_dec[best]
        codes.append(code)
        residuals.append(r)
    return torch.stack(codes), torch.stack(residuals)


@pytest.mark.parametrize("gram_latents", [1 << 14, 0], ids=["products", "residual"])
@pytest.mark.parametrize("block_cells", [1 << 19, 100])
def test_codes_and_gradients_are_those_of_a_plain_loop(
    monkeypatch: pytest.MonkeyPatch, gram_latents: int, block_cells: int
) -> None:
    monkeypatch.setattr(pursuit, "_GRAM_LATENTS", gram_latents)
    monkeypatch.setattr(pursuit, "_BLOCK_CELLS", block_cells)
    directions, x = unit_rows(10, 6), unit_rows(30, 6, seed=1) * 3
    weights = unit_rows(30, 6, seed=2)
    gradients = []
    for fast in (True, False):
        W_dec, x_ND = directions.clone().requires_grad_(), x.clone().requires_grad_()
        if fast:
            found = pursue(x_ND.detach(), W_dec.detach(), 7)
            residual = pursued_residual(x_ND, W_dec, found)
            codes = torch.zeros(30, 10).double().scatter_add(1, found.latents, found.values)
        else:
            expected, residual = naive(x_ND, W_dec, 7)
            torch.testing.assert_close(codes, expected.detach())
        (residual * weights + residual**2).sum().backward()
        gradients.append((residual.detach(), W_dec.grad, x_ND.grad))
    assert (found.values == 0).any(), "some tokens end early"
    assert (found.merged() > 0).sum() < (found.values > 0).sum(), "some latents are selected twice"
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


def test_each_step_takes_its_energy_away() -> None:
    directions, x = unit_rows(40, 8), unit_rows(25, 8, seed=1) * 5
    energies = [x.square().sum(1)]
    for n_steps in range(1, 6):
        found = pursue(x, directions, n_steps)
        energies.append(found.residual.square().sum(1))
        expected = energies[-2] - found.values[:, -1].square()
        torch.testing.assert_close(energies[-1], expected)
        assert (energies[-1] <= energies[-2]).all()


def test_more_steps_at_inference_fit_better(planted: Any) -> None:
    dictionary, x = build(k=2), planted.valid_tokens("eval")[:200].double()
    errors = []
    for steps in (2, 4, 16):
        dictionary.steps = steps
        errors.append(float((x - dictionary(x)).square().sum()))
        assert (dictionary.encode(x) > 0).sum(dim=1).max() <= steps
    assert errors[0] > 1.2 * errors[1] > 1.44 * errors[2]


def test_steps_of_the_sparse_code_are_those_of_the_first_selection() -> None:
    dictionary = build(k=2, d_sae=2)
    dictionary.steps = 4
    dictionary.W_dec.zero_()
    dictionary.W_dec[:, :2] = torch.tensor([[1.0, 0.0], [-0.6, 0.8]])
    x = torch.zeros(1, 16).double()
    x[0, :2] = torch.tensor([0.2, 1.0])
    values, latents, steps = dictionary.encode_steps(x)
    active = values[0] > 0
    assert latents[0, active].tolist() == [1, 0], "the strongest first"
    assert steps[0, active].tolist() == [0, 1]
    assert values[0, 0] > 0.68, "both visits are in it"


def test_stopping_rules() -> None:
    directions, x = unit_rows(40, 8), unit_rows(50, 8, seed=1) * torch.linspace(0.1, 3, 50).unsqueeze(1)
    free = pursue(x, directions, 12)
    near = pursue(x, directions, 12, stop_below=0.5)
    norms = (x.norm(dim=1).unsqueeze(1).square() - free.values.square().cumsum(1)).clamp_min(0).sqrt()
    before = torch.cat([x.norm(dim=1).unsqueeze(1), norms[:, :-1]], dim=1)
    torch.testing.assert_close(near.values, free.values * (before > 0.5))
    once = pursue(x, directions, 12, stop_on_repeat=True)
    for values, latents, plain in zip(once.values, once.latents, free.latents.tolist(), strict=True):
        repeats = [step for step in range(12) if plain[step] in plain[:step]]
        n_steps = repeats[0] + 1 if repeats else 12
        assert latents[:n_steps].tolist() == plain[:n_steps]
        assert (values[n_steps:] == 0).all()
    assert (once.values == 0).any()


def test_the_norm_at_which_pursuit_stops_has_the_units_of_the_input(planted: Any) -> None:
    dictionary = build(k=4, stop_below=0.2)
    state = TrainingState(1, 1, 1.0, 4.0, 4.0, torch.zeros(48).long(), torch.Generator())
    dictionary.before_training(state)
    assert float(dictionary.residual_threshold) == pytest.approx(0.8)
    scale = torch.full((16,), 0.5).double()
    dictionary.fold_scale(scale, scale)
    assert float(dictionary.residual_threshold) == pytest.approx(1.6)


def test_dead_directions_move_towards_what_is_left(planted: Any) -> None:
    dictionary = build(k=2, d_sae=20, aux_alpha=1.0).requires_grad_(True)
    x = planted.valid_tokens("train")[:100].double()
    gradients = []
    for dead_after in (10, 100):
        since = torch.zeros(20, dtype=torch.int64)
        since[7:] = 50
        state = TrainingState(10, dead_after, 2.0, 4.0, 4.0, since, torch.Generator())
        dictionary.zero_grad()
        result = dictionary.training_loss(x, x, state)
        result.loss.backward()
        gradients.append(dictionary.W_dec.grad.clone())
        assert (float(result.parts["aux_loss"]) > 0) == (dead_after == 10)
    changed = (gradients[0] - gradients[1]).abs().sum(dim=1) > 1e-12
    assert not changed[:7].any()
    assert changed[7:].any()


def naive_orthogonal(x_D: Any, W_dec: Any, n_steps: int) -> tuple[Any, list[int]]:
    """The code of one token and the latents in the order in which they were selected."""
    code, selected = np.zeros(len(W_dec)), []
    for _ in range(n_steps):
        products = np.where(code > 0, -np.inf, W_dec @ (x_D - code @ W_dec))
        best = int(products.argmax())
        if products[best] <= 1e-12:
            break
        selected.append(best)
        support = [*np.flatnonzero(code > 0), best]
        code = np.zeros(len(W_dec))
        code[support], _ = nnls(W_dec[support].T, x_D)
    return code, selected


def test_orthogonal_pursuit_is_that_of_plain_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pursuit, "_BLOCK_CELLS", 1_000)  # several blocks
    directions, x = unit_rows(40, 8), unit_rows(60, 8, seed=1) * 3
    n_left = 0
    for n_steps in (1, 3, 6, 20):
        found = pursue_orthogonally(x, directions, n_steps)
        codes = torch.zeros(60, 40).double().scatter_add(1, found.latents, found.values)
        torch.testing.assert_close(found.residual, x - codes @ directions)
        for token in range(60):
            code, selected = naive_orthogonal(x[token].numpy(), directions.numpy(), n_steps)
            torch.testing.assert_close(codes[token], torch.from_numpy(code))
            assert found.latents[token, : len(selected)].tolist() == selected
            n_left += len(selected) - int((codes[token] > 0).sum())
    assert n_left > 0, "some latents left again"
    complete = [nnls(directions.numpy().T, token.numpy())[0] for token in x]
    np.testing.assert_allclose(codes, complete, atol=1e-9)


def test_orthogonal_pursuit_of_the_golden_case_is_exact() -> None:
    directions = torch.tensor([[1.0, 0.0], [-0.6, 0.8]])
    found = pursue_orthogonally(torch.ones(1, 2), directions, 4)
    assert found.values[0].tolist() == pytest.approx([1.75, 1.25, 0.0, 0.0])
    assert float(found.residual.norm()) < 1e-6
    twins = pursue_orthogonally(torch.ones(1, 2), directions[[0, 1, 1, 0]], 4)
    assert float(twins.residual.norm()) < 1e-5, "one direction twice has a solution"
    assert pursue_orthogonally(torch.ones(1, 2), directions, 4, stop_below=1.2).values[0, 1] == 0


def test_the_gradient_of_orthogonal_pursuit_is_that_through_the_least_squares(planted: Any) -> None:
    plain, dictionary = (build(k=4, orthogonal=o, aux_alpha=0.0).requires_grad_(True) for o in (False, True))
    x = planted.valid_tokens("train")[:80].double()
    state = TrainingState(10, 100, 2.0, 4.0, 4.0, torch.zeros(48).long(), torch.Generator())
    result = dictionary.training_loss(x, x, state)
    result.loss.backward()
    assert float(result.sse) < float(plain.training_loss(x, x, state).sse)
    found = [dictionary.W_dec.grad.clone(), dictionary.b_dec.grad.clone()]
    codes = dictionary.encode(x)
    dictionary.zero_grad()
    losses = []
    for token, code in zip(x, codes, strict=True):
        rows, centred = dictionary.W_dec[code > 0], token - dictionary.b_dec
        values = torch.linalg.solve(rows @ rows.T, rows @ centred)
        losses.append((centred - values @ rows).square().sum() / 2.0)
    torch.stack(losses).mean().backward()
    for ours, through in zip(found, (dictionary.W_dec.grad, dictionary.b_dec.grad), strict=True):
        torch.testing.assert_close(ours, through)


def test_orthogonal_pursuit_is_named_and_repeats_nothing() -> None:
    assert build(k=4, orthogonal=True).config.name() == "matching_pursuit-w48-k4-orthogonal-s0"
    with pytest.raises(ValidationError, match="orthogonal pursuit repeats no latent"):
        build(orthogonal=True, stop_on_repeat=True)
