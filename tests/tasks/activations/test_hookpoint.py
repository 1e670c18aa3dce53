"""Hookpoints as a value, and their names in the vocabulary of TransformerLens."""

import pytest
from pydantic import ValidationError

from catalog.errors import UserError
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.hookpoint import TRANSFORMER_LENS, Hookpoint, transformer_lens_name
from tasks.activations.models.hookpoints import LAYOUTS


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("blocks.2.resid_post", "blocks.2.hook_resid_post"),
        ("blocks.10.attn_z", "blocks.10.attn.hook_z"),
        ("blocks.0.mlp_act", "blocks.0.mlp.hook_post"),
        ("blocks.0.mlp_in", "blocks.0.mlp.hook_in"),
        ("module:model.layers.3", "module:model.layers.3"),
    ],
)
def test_names_are_translated(ours: str, theirs: str) -> None:
    assert transformer_lens_name(ours) == theirs


def test_every_name_of_the_vocabulary_has_a_translation() -> None:
    known = {name for layout in LAYOUTS.values() for name in layout.hookpoints}
    assert known == set(TRANSFORMER_LENS)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("blocks.2.resid_post", (2, "resid_post", "output")),
        ("blocks.10.attn_z", (10, "attn_z", "output")),
        ("module:model.layers.0.mlp", (None, "model.layers.0.mlp", "output")),
        ("module:model.layers.0.mlp:input", (None, "model.layers.0.mlp", "input")),
    ],
)
def test_a_hookpoint_is_parsed_and_written_as_it_was(text: str, parts: tuple[object, ...]) -> None:
    found = Hookpoint.parse(text)
    assert (found.layer, found.name, found.side) == parts
    assert str(found) == text
    assert found == Hookpoint.parse(text)


@pytest.mark.parametrize("text", ["", "resid_post", "blocks.02.resid_post", "blocks.x.mlp_in", "module:a b"])
def test_another_form_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(UserError, match=r"is neither blocks\.I\.NAME .* nor module:PATH"):
        Hookpoint.parse(text)
    assert Hookpoint.in_block(text) is None


def test_a_hookpoint_has_neighbours() -> None:
    read = Hookpoint.parse("blocks.2.mlp_in")
    assert str(read.renamed("mlp_out")) == "blocks.2.mlp_out"
    assert str(read.moved(-1)) == "blocks.1.mlp_in"
    module = Hookpoint.parse("module:head")
    assert module.moved(1) == module


def test_a_configuration_refuses_what_is_no_hookpoint() -> None:
    values = {"context_length": 16, "n_tokens": 100}
    kept = ActivationsConfig(hookpoints=("blocks.0.mlp_out",), **values)
    assert kept.hookpoints == ("blocks.0.mlp_out",)
    with pytest.raises(ValidationError, match="hookpoint 'block 0' is neither"):
        ActivationsConfig(hookpoints=("block 0",), **values)
