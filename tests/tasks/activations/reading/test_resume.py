"""A forward pass that begins at a hookpoint gives what a whole one gives, to the bit, in every layout."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import splice
from tasks.activations.reading.resume import Prefix
from tests.tasks.activations.conftest import FAMILIES

Loader = Callable[[str], LanguageModel]
INPUTS = {"input_ids": torch.arange(20, 44).reshape(2, 12)}


def halved(value_BTD: Tensor) -> Tensor:
    """Something that depends on the value and not only on its place."""
    return value_BTD / 2 + 0.1


def logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.model(**INPUTS).logits
    return found


@pytest.mark.parametrize("name", ["resid_pre", "attn_out", "mlp_out", "resid_post"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_from_a_hookpoint_on_equals_a_whole_one(
    language_model: Loader, family: str, name: str
) -> None:
    model, hookpoint = language_model(family), f"blocks.1.{name}"
    prefix = Prefix(model, hookpoint)
    with prefix.kept() as stream:
        clean = logits(model)
    with splice(model, hookpoint, halved):
        whole = logits(model)
        with prefix.skipped(*stream):
            resumed = logits(model)
    assert torch.equal(whole, resumed)
    assert not torch.equal(whole, clean), "the replacement reached the end"
    assert torch.equal(logits(model), clean), "no trace is left"


@pytest.mark.parametrize(("hookpoint", "n_blocks"), [("blocks.2.mlp_out", 2), ("blocks.1.resid_post", 2)])
def test_blocks_before_the_hookpoint_compute_nothing(
    language_model: Loader, hookpoint: str, n_blocks: int
) -> None:
    model = language_model("llama")
    prefix = Prefix(model, hookpoint)
    with prefix.kept() as stream:
        logits(model)
    ran: list[int] = []
    handles = [
        block.self_attn.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, block in enumerate(model.model.model.layers)
    ]
    try:
        with splice(model, hookpoint, halved), prefix.skipped(*stream):
            logits(model)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == list(range(n_blocks, 3))


@pytest.mark.parametrize("hookpoint", ["blocks.0.mlp_out", "module:model.layers.1"])
def test_a_pass_is_whole_where_nothing_is_known_to_come_before(
    language_model: Loader, hookpoint: str
) -> None:
    model = language_model("llama")
    prefix = Prefix(model, hookpoint)
    with prefix.kept() as stream:
        clean = logits(model)
    assert stream == []
    with prefix.skipped(None):
        assert torch.equal(logits(model), clean)
