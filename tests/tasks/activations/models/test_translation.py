"""Hookpoint names in the vocabulary of TransformerLens."""

import pytest

from tasks.activations.models.hookpoints import LAYOUTS
from tasks.activations.models.translation import TRANSFORMER_LENS, transformer_lens_name


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
    known = {name for layout in LAYOUTS.values() for name in layout.sites}
    assert known == set(TRANSFORMER_LENS)
