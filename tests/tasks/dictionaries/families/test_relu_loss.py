"""Both ways through ReLU-like codes against autograd on dense matrices."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.families import relu_loss
from tasks.dictionaries.families.pre_activation_loss import shortfall
from tasks.dictionaries.families.straight_through import jump, step
from tasks.dictionaries.kernels import products
from tasks.dictionaries.training_state import TrainingState
from tests.tasks.dictionaries.plain_torch import without_kernels

MEAN_NORM, TARGET_NORM, SILENT = 4.0, 3.0, 7
FORMS: tuple[dict[str, Any], ...] = (
    {"architecture": "relu_l1", "l1_coefficient": 0.3},
    {"architecture": "relu_l1", "l1_coefficient": 0.3, "free_norms": True},
    {"architecture": "jumprelu", "target_l0": 3.0, "bandwidth": 0.3},
    {"architecture": "jumprelu", "l0_coefficient": 0.3, "bandwidth": 0.3},
    {
        "architecture": "jumprelu",
        "bandwidth": 0.3,
        "tanh_coefficient": 0.3,
        "tanh_steepness": 0.7,
        "shortfall_coefficient": 0.2,
    },
)


def make(form: dict[str, Any]) -> tuple[Dictionary, TrainingState]:
    dictionary = build_dictionary(dictionary_config({**form, "d_sae": 40, "n_tokens": 100}), 8).double()
    silent = 200 * (torch.arange(40) < SILENT)
    state = TrainingState(10, 100, 2.0, MEAN_NORM, TARGET_NORM, silent, torch.Generator(), step=9)
    dictionary.before_training(state)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (dictionary.b_enc, dictionary.b_dec):
            parameter += torch.randn(parameter.shape, generator=random)
        dictionary.W_dec *= 0.5 + torch.rand(40, 1, generator=random)
    return dictionary, state


def dense_loss(dictionary: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    config, z = dictionary.config, dictionary.pre_acts(x)
    if config.architecture == "relu_l1":
        acts = z.relu()
        cost = dictionary.W_dec.norm(dim=1) if config.free_norms else 1.0
        penalty = config.l1_coefficient * (acts * cost).sum(dim=1).mean() / MEAN_NORM
    else:
        bandwidth = config.bandwidth * MEAN_NORM
        acts = jump(z, dictionary.threshold, bandwidth)
        l0 = step(z, dictionary.threshold, bandwidth).sum(dim=1).mean()
        if config.tanh_coefficient:
            steepness = config.tanh_steepness * 8**0.5 / MEAN_NORM
            penalty = config.tanh_coefficient * torch.tanh(steepness * acts).sum(dim=1).mean()
            short = (dictionary.threshold - z)[:, :SILENT].relu().sum(dim=1).mean() / MEAN_NORM
            penalty = penalty + config.shortfall_weight * short
        elif config.target_l0:
            penalty = (l0 / config.target_l0 - 1).square()
        else:
            penalty = config.l0_coefficient * l0
    sse = (x - dictionary.decode(acts, x)).square().sum(dim=1).mean()
    return sse / TARGET_NORM**2 + penalty, (acts > 0).double()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["slices", "pairs"])
def test_loss_and_gradients_equal_dense_autograd(
    form: dict[str, Any], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relu_loss, "_SPARSE_SHARE", share)
    monkeypatch.setitem(products._SLICE_BYTES, "cpu", 64 * 4 * 40)  # five slices, the last one short
    dictionary, state = make(form)
    x = 3 * torch.randn(300, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    result = dictionary.training_loss(x, x, state)
    result.loss.backward()
    found = {name: parameter.grad for name, parameter in dictionary.named_parameters()}
    dictionary.zero_grad()
    loss, active = dense_loss(dictionary, x)
    loss.backward()
    torch.testing.assert_close(result.loss, loss)
    torch.testing.assert_close(result.l0.double(), active.sum(dim=1).mean())
    assert torch.equal(result.fired, active.any(dim=0))
    for name, parameter in dictionary.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.norm() > 0
        torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_what_latents_lack_to_their_thresholds_has_the_gradients_of_autograd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(products._SLICE_BYTES, "cpu", 64 * 4 * SILENT)
    dictionary, state = make(FORMS[-1])
    x = 3 * torch.randn(300, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    threshold = getattr(dictionary, "threshold")  # noqa: B009
    weights = (dictionary.W_enc, dictionary.b_enc, dictionary.b_dec, threshold)
    short = (threshold - dictionary.pre_acts(x))[:, :SILENT].relu().sum(dim=1).mean()
    found = shortfall(dictionary, x, threshold, state.dead)
    torch.testing.assert_close(found, short)
    expected = torch.autograd.grad(3 * short, weights)
    for ours, plain in zip(torch.autograd.grad(3 * found, weights), expected, strict=True):
        torch.testing.assert_close(ours, plain)
    none = shortfall(dictionary, x, threshold, torch.zeros(40, dtype=torch.bool))
    assert (float(none), none.requires_grad) == (0.0, False)


def test_the_tanh_form_lets_dead_latents_learn_unless_told_otherwise() -> None:
    weights = [make(form)[0].config.shortfall_weight for form in FORMS[2:4]]  # type: ignore[attr-defined]
    assert weights == [0.0, 0.0]
    plain = {name: value for name, value in FORMS[-1].items() if name != "shortfall_coefficient"}
    config: Any = make(plain)[0].config
    assert (config.shortfall_weight, config.name()) == (3e-6, "jumprelu-w40-tanh0.3-s0")
    with pytest.raises(ValidationError, match="exactly one of target_l0, l0_coefficient and tanh_coeff"):
        make({**plain, "target_l0": 2.0})


@pytest.mark.parametrize("form", FORMS[::2], ids=["relu_l1", "jumprelu", "tanh"])
@pytest.mark.parametrize("share", [0.0, 1.0], ids=["slices", "pairs"])
def test_kernels_change_nothing(form: dict[str, Any], share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relu_loss, "_SPARSE_SHARE", share)
    x = 3 * torch.randn(300, 8, generator=torch.Generator().manual_seed(3))

    def results() -> list[Tensor]:
        dictionary, state = make(form)
        dictionary.float()
        result = dictionary.training_loss(x, x, state)
        result.loss.backward()
        return [result.loss.detach(), result.l0, *(parameter.grad for parameter in dictionary.parameters())]

    found = results()
    with without_kernels():
        expected = results()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, check_dtype=False)


def test_few_active_latents_are_handled_as_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    for name in ("_by_pairs", "_by_slices"):
        way = getattr(relu_loss, name)
        monkeypatch.setattr(relu_loss, name, lambda *a, name=name, way=way: used.append(name) or way(*a))
    dictionary, state = make(FORMS[0])
    x = torch.randn(50, 8, dtype=torch.float64)
    dictionary.training_loss(x, x, state)
    with torch.no_grad():
        dictionary.b_enc -= 8
    dictionary.training_loss(x, x, state)
    assert used == ["_by_slices", "_by_pairs"]


def test_free_norms_are_moved_into_the_encoder_after_the_training() -> None:
    dictionary, _ = make(FORMS[1])
    dictionary.requires_grad_(False)
    x = torch.randn(30, 8, dtype=torch.float64)
    before, codes = dictionary(x), dictionary.encode(x)
    norms = dictionary.W_dec.norm(dim=1)
    dictionary.normalise_decoder()
    assert torch.equal(dictionary.W_dec.norm(dim=1), norms), "free norms are left alone in training"
    dictionary.after_training(x)
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(40, dtype=torch.float64))
    torch.testing.assert_close(dictionary(x), before)
    torch.testing.assert_close(dictionary.encode(x), codes * norms)
