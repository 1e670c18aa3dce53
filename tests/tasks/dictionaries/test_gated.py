"""Gated: gradients against a plain implementation in which the frozen decoder is a copy."""

from typing import Any

import pytest
import torch

from tasks.dictionaries import active_pairs
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.training_state import TrainingState


@pytest.mark.parametrize("largest_share", [0.0, 1.0], ids=["dense", "pairs"])
def test_every_gradient_is_that_of_the_plain_loss(
    planted: Any, largest_share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_pairs, "_LARGEST_SHARE", largest_share)
    fields = {"architecture": "gated", "d_sae": 24, "n_tokens": 1, "l1_coefficient": 0.3}
    dictionary: Any = build_dictionary(dictionary_config(fields), 16).double()
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in ("b_enc", "r_mag", "b_mag", "b_dec"):
            parameter = getattr(dictionary, name)
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    state = TrainingState(10, 9, 3.0, 4.0, 4.0, torch.zeros(24).long(), torch.Generator(), step=9)
    x = planted.valid_tokens("train")[:80].double()
    dictionary.training_loss(x, x, state).loss.backward()
    found = {name: parameter.grad for name, parameter in dictionary.named_parameters()}

    p = {name: value.detach().clone().requires_grad_() for name, value in dictionary.named_parameters()}
    z = (x - p["b_dec"]) @ p["W_enc"]
    gate = z + p["b_enc"]
    acts = (gate > 0).double() * (p["r_mag"].exp() * z + p["b_mag"]).relu()
    error = x - acts @ p["W_dec"] - p["b_dec"]
    frozen_error = x - gate.relu() @ dictionary.W_dec.detach() - dictionary.b_dec.detach()
    squares = (error.square().sum(1) + frozen_error.square().sum(1)).mean() / 4.0**2
    (squares + 0.3 * gate.relu().sum(1).mean() / 4.0).backward()  # type: ignore[no-untyped-call]
    assert set(found) == set(p) == {"W_enc", "b_enc", "W_dec", "b_dec", "r_mag", "b_mag"}
    for name, parameter in p.items():
        torch.testing.assert_close(found[name], parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_the_gate_decides_and_the_strength_does_not_shrink() -> None:
    fields = {"architecture": "gated", "d_sae": 2, "n_tokens": 1, "l1_coefficient": 0.3}
    dictionary: Any = build_dictionary(dictionary_config(fields), 2).requires_grad_(False)
    dictionary.W_enc.copy_(torch.eye(2))
    dictionary.b_enc.fill_(-1.0)
    assert dictionary.encode(torch.tensor([[0.9, 3.0]])).tolist() == [[0.0, 3.0]]
