"""Capturing stops early and leaves no trace; splicing reaches everything downstream."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from catalog.errors import UserError
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture, splice

Loader = Callable[[str], LanguageModel]
INPUTS = {"input_ids": torch.arange(20, 44).reshape(2, 12)}


def _n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_forward_pass_ends_with_the_last_value_needed(language_model: Loader) -> None:
    model = language_model("llama")
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in model.model.named_modules()
        if name in ("model.layers.0", "model.layers.1", "model.layers.2", "lm_head")
    ]
    try:
        capture(model, ["blocks.1.resid_pre", "blocks.0.attn_out"], INPUTS)
    finally:
        for handle in handles:
            handle.remove()
    assert ran == ["model.layers.0"]


def test_order_and_repetition_of_names_do_not_matter(language_model: Loader) -> None:
    model = language_model("gpt2")
    names = ["blocks.2.resid_post", "blocks.0.resid_pre", "blocks.2.resid_post"]
    captured = capture(model, names, INPUTS)
    assert list(captured) == names[:2]


def test_captured_values_are_copies(language_model: Loader) -> None:
    model = language_model("llama")
    before = capture(model, ["blocks.0.resid_post"], INPUTS)["blocks.0.resid_post"]
    kept = before.clone()
    capture(model, ["blocks.0.resid_post"], {"input_ids": INPUTS["input_ids"] + 1})
    assert torch.equal(before, kept)
    assert not before.requires_grad


def test_hooks_are_removed_whatever_happens(language_model: Loader) -> None:
    model = language_model("llama")
    n_hooks = _n_hooks(model.model)
    capture(model, ["blocks.1.mlp_out"], INPUTS)
    with pytest.raises(UserError):
        capture(model, ["blocks.1.mlp_out", "module:model.rotary_emb"], INPUTS)
    with pytest.raises(RuntimeError, match="inside"), splice(model, "blocks.1.mlp_out", lambda x: x):
        raise RuntimeError("inside")
    assert _n_hooks(model.model) == n_hooks


def test_module_that_does_not_run_is_an_error(language_model: Loader) -> None:
    model = language_model("llama")
    model.model.idle = nn.Linear(2, 2)
    try:
        with pytest.raises(UserError, match="module 'idle' did not run"):
            capture(model, ["module:idle"], INPUTS)
    finally:
        del model.model.idle


def test_module_that_runs_twice_is_an_error(language_model: Loader) -> None:
    model = language_model("llama")
    first, second = model.model.model.layers[0].mlp, model.model.model.layers[1].mlp
    original, second.act_fn = second.act_fn, first.act_fn
    try:
        with pytest.raises(UserError, match="more than once"):
            capture(model, ["module:model.layers.0.mlp.act_fn", "blocks.2.resid_post"], INPUTS)
    finally:
        second.act_fn = original


def test_value_of_another_shape_is_an_error(language_model: Loader) -> None:
    model = language_model("llama")
    with pytest.raises(UserError, match=r"has the shape \(\d+, 12, \d+\), not \(2, 12, D\)"):
        capture(model, ["module:model.rotary_emb"], INPUTS)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "gemma2", "bert", "distilbert"])
@pytest.mark.parametrize(
    "name", ["resid_pre", "attn_z", "attn_out", "mlp_in", "mlp_act", "mlp_out", "resid_post"]
)
def test_splicing_the_same_value_changes_nothing_and_another_does(
    language_model: Loader, family: str, name: str
) -> None:
    model = language_model(family)
    with torch.no_grad():
        plain = model.model(**INPUTS).logits
        with splice(model, f"blocks.1.{name}", lambda x: x.clone()):
            same = model.model(**INPUTS).logits
        with splice(model, f"blocks.1.{name}", torch.zeros_like):
            zeroed = model.model(**INPUTS).logits
        again = model.model(**INPUTS).logits
    torch.testing.assert_close(same, plain)
    assert (zeroed - plain).abs().max() > 1e-3
    assert torch.equal(again, plain)


def test_spliced_stream_is_all_that_later_blocks_see(language_model: Loader) -> None:
    model = language_model("llama")
    other = {"input_ids": INPUTS["input_ids"] + 7}
    stream = capture(model, ["blocks.1.resid_post"], other)["blocks.1.resid_post"]
    with torch.no_grad():
        with splice(model, "blocks.1.resid_post", lambda _: stream):
            spliced = model.model(**INPUTS).logits
        torch.testing.assert_close(spliced, model.model(**other).logits)


def test_replacing_the_mlp_output_is_arithmetic_on_the_stream(language_model: Loader) -> None:
    model = language_model("gpt2")
    names = ["blocks.2.resid_mid", "blocks.2.resid_post"]
    with splice(model, "blocks.2.mlp_out", torch.zeros_like):
        captured = capture(model, names, INPUTS)
    torch.testing.assert_close(captured["blocks.2.resid_post"], captured["blocks.2.resid_mid"])


def test_value_with_a_second_branch_cannot_be_replaced(language_model: Loader) -> None:
    with (
        pytest.raises(UserError, match="can be read but not replaced"),
        splice(language_model("llama"), "blocks.1.resid_mid", lambda x: x),
    ):
        pass


def test_replacement_must_keep_the_shape(language_model: Loader) -> None:
    model = language_model("llama")
    with (
        splice(model, "blocks.1.resid_post", lambda x: x[:, :1]),
        pytest.raises(UserError, match="replacement"),
    ):
        model.model(**INPUTS)
