"""Names of hookpoints in other tools, in our vocabulary."""

import re

from tasks.activations.models.translation import TRANSFORMER_LENS

_OURS = {theirs: ours for ours, theirs in TRANSFORMER_LENS.items()}
_OURS |= {"ln2.hook_normalized": "mlp_in", "hook_mlp_in": "resid_mid", "mlp.hook_out": "mlp_out"}
_LENS_NAME = re.compile(r"blocks\.(?P<block>\d+)\.(?P<name>[a-z0-9_.]+)")
_MODULE_PATH = re.compile(
    r"(?:.*\.)?(?:layers|h|layer|blocks)\.(?P<block>\d+)(?:\.(?P<part>mlp|self_attn|attention|attn))?"
)
_PARTS = {None: "resid_post", "mlp": "mlp_out", "self_attn": "attn_out", "attention": "attn_out"}
_PARTS |= {"attn": "attn_out"}
_MODULE_SIDE = re.compile(r"(?:.*\.)?layers\.(?P<block>\d+)\.(?P<side>[a-z_.]+)")
_SIDES = {
    "output": "resid_post",
    "self_attn.o_proj.input": "attn_z",
    "pre_feedforward_layernorm.output": "mlp_in",
    "post_feedforward_layernorm.output": "mlp_out",
}


def from_transformer_lens(name: object) -> str | None:
    """``blocks.2.hook_resid_post`` becomes ``blocks.2.resid_post``; None for a name that is not known.

    ``ln2.hook_normalized`` is what the MLP reads, but without the gain and bias of the norm: the import gate
    finds out which of both a transcoder means. ``hook_mlp_in`` is the stream before that norm.
    """
    match = _LENS_NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or match["name"] not in _OURS:
        return None
    return f"blocks.{match['block']}.{_OURS[match['name']]}"


def from_module_side(name: object) -> str | None:
    """``model.layers.2.output`` becomes ``blocks.2.resid_post``: names of the sides of Gemma's modules."""
    match = _MODULE_SIDE.fullmatch(name) if isinstance(name, str) else None
    if match is None or match["side"] not in _SIDES:
        return None
    return f"blocks.{match['block']}.{_SIDES[match['side']]}"


def from_module_path(path: object) -> str | None:
    """``h.2.mlp`` or ``model.layers.2.mlp`` becomes ``blocks.2.mlp_out``, ``layers.2`` its resid_post."""
    match = _MODULE_PATH.fullmatch(path) if isinstance(path, str) else None
    if match is None:
        return None
    return f"blocks.{match['block']}.{_PARTS[match['part']]}"


def module_path(hookpoint: str) -> str | None:
    """``blocks.2.mlp_out`` becomes ``layers.2.mlp``; None for a hookpoint that has no module of its own."""
    block, _, name = hookpoint.removeprefix("blocks.").partition(".")
    part = {"resid_post": "", "mlp_out": ".mlp", "mlp_in": ".mlp", "attn_out": ".self_attn"}.get(name)
    return None if part is None else f"layers.{block}{part}"


def known(*names: str | None) -> tuple[str, ...]:
    """The names that were recognised."""
    return tuple(name for name in names if name is not None)
