"""Hookpoints as a value: parsed, formatted, and translated to the names of other tools.

``blocks.I.NAME`` is a value of a block, ``module:PATH`` the output of a module, ``module:PATH:input`` its
input. Pipeline files, tables and messages hold the text.

Since version 3 TransformerLens calls the input of an MLP ``mlp.hook_in``, and so do the files that SAELens
makes of published transcoders. ``ln2.hook_normalized`` is a different value: the normed stream before the
gain and bias of the norm.
"""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator

from catalog.errors import UserError

Side = Literal["input", "output"]

NAMES = ("resid_pre", "attn_z", "attn_out", "resid_mid", "mlp_in", "mlp_act", "mlp_out", "resid_post")
TRANSFORMER_LENS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_in": "mlp.hook_in",
    "mlp_act": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
}
_OURS = {theirs: ours for ours, theirs in TRANSFORMER_LENS.items()}
_OURS |= {"ln2.hook_normalized": "mlp_in", "hook_mlp_in": "resid_mid", "mlp.hook_out": "mlp_out"}
_PARTS = {None: "resid_post", "mlp": "mlp_out", "self_attn": "attn_out", "attention": "attn_out"}
_PARTS |= {"attn": "attn_out"}
_SIDES = {
    "output": "resid_post",
    "self_attn.o_proj.input": "attn_z",
    "pre_feedforward_layernorm.output": "mlp_in",
    "post_feedforward_layernorm.output": "mlp_out",
}
_OWN_MODULES = {"resid_post": "", "mlp_out": ".mlp", "mlp_in": ".mlp", "attn_out": ".self_attn"}

_BLOCK = r"(?P<block>0|[1-9]\d{0,3})"
_OF_BLOCK = re.compile(rf"blocks\.{_BLOCK}\.(?P<name>[a-z_]+)")
_OF_MODULE = re.compile(r"module:(?P<path>[A-Za-z0-9_.]+?)(?P<input>:input)?")
_LENS_NAME = re.compile(rf"blocks\.{_BLOCK}\.(?P<name>[a-z0-9_.]+)")
_MODULE_SIDE = re.compile(rf"(?:.*\.)?layers\.{_BLOCK}\.(?P<side>[a-z_.]+)")
_MODULE_PATH = re.compile(
    rf"(?:.*\.)?(?:layers|h|layer|blocks)\.{_BLOCK}(?:\.(?P<part>mlp|self_attn|attention|attn))?"
)


@dataclass(frozen=True, slots=True)
class Hookpoint:
    """A position in a model whose value is read or replaced."""

    layer: int | None
    """The block; None for a module."""
    name: str
    """The name within the block, or the path of the module."""
    side: Side = "output"
    """The side of a module."""

    @classmethod
    def parse(cls, text: str) -> "Hookpoint":
        """The hookpoint that ``text`` names.

        Raises:
            UserError: for a name with another form.
        """
        found = cls.in_block(text)
        if found is not None:
            return found
        match = _OF_MODULE.fullmatch(text)
        if match is None:
            raise UserError(
                f"hookpoint {text!r} is neither blocks.I.NAME (NAME one of {', '.join(NAMES)}) "
                "nor module:PATH nor module:PATH:input"
            )
        return cls(None, match["path"], "input" if match["input"] else "output")

    @classmethod
    def in_block(cls, text: str) -> "Hookpoint | None":
        """The hookpoint ``blocks.I.NAME``; None for a text of any other form."""
        match = _OF_BLOCK.fullmatch(text)
        return None if match is None else cls(int(match["block"]), match["name"])

    @property
    def depth(self) -> tuple[int, int] | None:
        """Its place in the order in which a model computes; None for a module, whose place is unknown."""
        if self.layer is None or self.name not in NAMES:
            return None
        return self.layer, NAMES.index(self.name)

    def __str__(self) -> str:
        if self.layer is not None:
            return f"blocks.{self.layer}.{self.name}"
        return f"module:{self.name}" + (":input" if self.side == "input" else "")

    def renamed(self, name: str) -> "Hookpoint":
        """Another hookpoint of the same block."""
        return replace(self, name=name)

    def moved(self, by: int) -> "Hookpoint":
        """The hookpoint of this name some blocks later; a module stays."""
        return self if self.layer is None else replace(self, layer=self.layer + by)


def _well_formed(text: str) -> str:
    try:
        return str(Hookpoint.parse(text))
    except UserError as error:
        raise ValueError(str(error)) from None


HookpointText = Annotated[str, AfterValidator(_well_formed)]
"""The text of a hookpoint in a configuration."""


def transformer_lens_name(hookpoint: str) -> str:
    """``blocks.2.resid_post`` becomes ``blocks.2.hook_resid_post``; an unknown name does not change."""
    ours = Hookpoint.in_block(hookpoint)
    if ours is None or ours.name not in TRANSFORMER_LENS:
        return hookpoint
    return f"blocks.{ours.layer}.{TRANSFORMER_LENS[ours.name]}"


def from_transformer_lens(name: object) -> str | None:
    """``blocks.2.hook_resid_post`` becomes ``blocks.2.resid_post``; None for a name that is not known.

    ``ln2.hook_normalized`` is what the MLP reads, but without the gain and bias of the norm: the import gate
    finds out which of both a transcoder means. ``hook_mlp_in`` is the stream before that norm.
    """
    match = _LENS_NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None or match["name"] not in _OURS:
        return None
    return str(Hookpoint(int(match["block"]), _OURS[match["name"]]))


def from_module_side(name: object) -> str | None:
    """``model.layers.2.output`` becomes ``blocks.2.resid_post``: names of the sides of Gemma's modules."""
    match = _MODULE_SIDE.fullmatch(name) if isinstance(name, str) else None
    if match is None or match["side"] not in _SIDES:
        return None
    return str(Hookpoint(int(match["block"]), _SIDES[match["side"]]))


def from_module_path(path: object) -> str | None:
    """``h.2.mlp`` or ``model.layers.2.mlp`` becomes ``blocks.2.mlp_out``, ``layers.2`` its resid_post."""
    match = _MODULE_PATH.fullmatch(path) if isinstance(path, str) else None
    if match is None:
        return None
    return str(Hookpoint(int(match["block"]), _PARTS[match["part"]]))


def module_path(hookpoint: str) -> str | None:
    """``blocks.2.mlp_out`` becomes ``layers.2.mlp``; None for a hookpoint that has no module of its own."""
    ours = Hookpoint.in_block(hookpoint)
    if ours is None or ours.name not in _OWN_MODULES:
        return None
    return f"layers.{ours.layer}{_OWN_MODULES[ours.name]}"


def known(*names: str | None) -> tuple[str, ...]:
    """The names that were recognised."""
    return tuple(name for name in names if name is not None)
