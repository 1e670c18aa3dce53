"""The matrix between attn_z or mlp_act and the residual stream."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.models.output_projection import output_projection
from tasks.activations.reading.capture import capture


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize(("inside", "added"), [("attn_z", "attn_out"), ("mlp_act", "mlp_out")])
def test_differences_inside_become_differences_of_what_is_added(
    family: str, inside: str, added: str, language_model: Callable[[str], LanguageModel]
) -> None:
    model: Any = language_model(family)
    names = [f"blocks.1.{inside}", f"blocks.1.{added}"]
    seen = capture(model, names, {"input_ids": torch.tensor([[5, 9, 17, 40, 80]])})
    projection = output_projection(model, names[0])
    assert projection is not None
    inside_BTW, added_BTD = (seen[name].float() for name in names)
    differences = (inside_BTW[:, 1:] - inside_BTW[:, :-1]) @ projection  # without the bias
    torch.testing.assert_close(differences, added_BTD[:, 1:] - added_BTD[:, :-1], atol=1e-4, rtol=1e-3)


def test_other_hookpoints_and_norms_in_between_have_none(
    language_model: Callable[[str], LanguageModel],
) -> None:
    assert output_projection(language_model("llama"), "blocks.1.resid_post") is None
    assert output_projection(language_model("gemma2"), "blocks.1.attn_z") is None
    assert output_projection(language_model("bert"), "blocks.1.mlp_act") is None
