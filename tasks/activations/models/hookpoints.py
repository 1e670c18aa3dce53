"""Hookpoints: one vocabulary for every architecture, resolved to modules by an explicit table.

``blocks.{i}.resid_pre | attn_z | attn_out | resid_mid | mlp_in | mlp_act | mlp_out | resid_post``, and
``module:exact.module.path`` (its output) or ``module:exact.module.path:input`` for anything else. The README
of `tasks/activations` says what a name means if blocks are parallel or norms come after the sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from catalog.errors import UserError
from tasks.activations.hookpoint import Hookpoint, Side

Family = Literal["pre_norm", "parallel", "sandwich_norm", "post_norm"]


@dataclass(frozen=True, slots=True)
class BlockHookpoint:
    """The position of a value in a block: the input or output of a module below it ("" is the block)."""

    module: str
    side: Side
    replaceable: bool = True
    """Whether replacing the value there replaces it for everything downstream."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model type is built, as far as hooks and masks need it."""

    family: Family
    blocks: str
    """Path of the list of blocks below the base model."""
    hookpoints: Mapping[str, BlockHookpoint]
    final_norm: str | None
    """Path of the norm before the unembedding, below the base model."""
    norm_offset: float = 0.0
    """A constant that the final norm adds to its stored weight."""
    is_causal: bool = True
    masks_by_layer_type: bool = False
    """Whether the model takes one attention mask per layer type (full and sliding attention)."""
    positions_after_padding: bool = False
    """Whether positions are counted from ``pad_token_id + 1``."""


@dataclass(frozen=True, slots=True)
class ResolvedHookpoint:
    """A resolved hookpoint: module, side, width."""

    hookpoint: str
    module: str
    side: Side
    width: int | None
    """Width of the value; None if only a forward pass can tell (``module:`` names)."""
    replaceable: bool


def _hookpoints(
    attention: str, attn_output: str, mid: BlockHookpoint, mlp: str, mlp_output: str
) -> dict[str, BlockHookpoint]:
    return {
        "resid_pre": BlockHookpoint("", "input"),
        "attn_z": BlockHookpoint(f"{attention}.{attn_output}", "input"),
        "attn_out": BlockHookpoint(attention, "output"),
        "resid_mid": mid,
        "mlp_in": BlockHookpoint(mlp, "input"),
        "mlp_act": BlockHookpoint(f"{mlp}.{mlp_output}", "input"),
        "mlp_out": BlockHookpoint(mlp, "output"),
        "resid_post": BlockHookpoint("", "output"),
    }


def _stream_before(norm: str) -> BlockHookpoint:
    """The stream as a norm reads it: replacing it there would not change the residual branch."""
    return BlockHookpoint(norm, "input", replaceable=False)


_LLAMA = Layout(
    "pre_norm",
    "layers",
    _hookpoints("self_attn", "o_proj", _stream_before("post_attention_layernorm"), "mlp", "down_proj"),
    "norm",
)
_GEMMA2 = Layout(
    "sandwich_norm",
    "layers",
    {
        **_hookpoints("self_attn", "o_proj", _stream_before("pre_feedforward_layernorm"), "mlp", "down_proj"),
        "attn_out": BlockHookpoint("post_attention_layernorm", "output"),
        "mlp_out": BlockHookpoint("post_feedforward_layernorm", "output"),
    },
    "norm",
    norm_offset=1.0,
    masks_by_layer_type=True,
)
_GPT2 = Layout(
    "pre_norm", "h", _hookpoints("attn", "c_proj", _stream_before("ln_2"), "mlp", "c_proj"), "ln_f"
)
_NEOX = Layout(
    "pre_norm",
    "layers",
    _hookpoints("attention", "dense", _stream_before("post_attention_layernorm"), "mlp", "dense_4h_to_h"),
    "final_layer_norm",
)
_BERT = Layout(
    "post_norm",
    "encoder.layer",
    {
        "resid_pre": BlockHookpoint("", "input"),
        "attn_z": BlockHookpoint("attention.output.dense", "input"),
        "attn_out": BlockHookpoint("attention.output.dense", "output"),
        "resid_mid": BlockHookpoint("attention", "output"),
        "mlp_in": BlockHookpoint("intermediate", "input"),
        "mlp_act": BlockHookpoint("output.dense", "input"),
        "mlp_out": BlockHookpoint("output.dense", "output"),
        "resid_post": BlockHookpoint("", "output"),
    },
    None,
    is_causal=False,
)
_DISTILBERT = Layout(
    "post_norm",
    "transformer.layer",
    {
        "resid_pre": BlockHookpoint("", "input"),
        "attn_z": BlockHookpoint("attention.out_lin", "input"),
        "attn_out": BlockHookpoint("attention", "output"),
        "resid_mid": BlockHookpoint("sa_layer_norm", "output"),
        "mlp_in": BlockHookpoint("ffn", "input"),
        "mlp_act": BlockHookpoint("ffn.lin2", "input"),
        "mlp_out": BlockHookpoint("ffn", "output"),
        "resid_post": BlockHookpoint("", "output"),
    },
    None,
    is_causal=False,
)

LAYOUTS: dict[str, Layout] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": replace(_LLAMA, masks_by_layer_type=True),
    "qwen3": replace(_LLAMA, masks_by_layer_type=True),
    "gemma": replace(_LLAMA, norm_offset=1.0),
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "gpt2": _GPT2,
    "gpt_neox": _NEOX,
    "bert": _BERT,
    "roberta": replace(_BERT, positions_after_padding=True),
    "distilbert": _DISTILBERT,
}


def layout_of(config: Any) -> Layout | None:
    """The layout of a Transformers model configuration; None for a type that is not in the table."""
    layout = LAYOUTS.get(config.model_type)
    if layout is not None and config.model_type == "gpt_neox" and config.use_parallel_residual:
        hookpoints = {name: point for name, point in layout.hookpoints.items() if name != "resid_mid"}
        return replace(layout, family="parallel", hookpoints=hookpoints)
    return layout


def resolve_hookpoint(model: Any, hookpoint: str) -> ResolvedHookpoint:
    """Find the module behind a hookpoint of a Transformers model.

    Raises:
        UserError: for a name with another form, a block or module that the model does not have, or a
            model type that is not in the table.
    """
    wanted = Hookpoint.parse(hookpoint)
    if wanted.layer is not None:
        return _resolve_block(model, hookpoint, wanted.layer, wanted.name)
    _find_module(model, wanted.name, hookpoint)
    return ResolvedHookpoint(hookpoint, wanted.name, wanted.side, None, replaceable=True)


def _resolve_block(model: Any, hookpoint: str, block: int, name: str) -> ResolvedHookpoint:
    layout = layout_of(model.config)
    model_type, n_layers = model.config.model_type, int(model.config.num_hidden_layers)
    if layout is None:
        raise UserError(
            f"hookpoint {hookpoint!r}: model type {model_type!r} is not in the table (known: "
            f"{', '.join(sorted(LAYOUTS))}): name the module itself, module:PATH"
        )
    point = layout.hookpoints.get(name)
    if point is None:
        raise UserError(
            f"hookpoint {hookpoint!r}: a {model_type} block of this model has no {name!r}; "
            f"it has {', '.join(layout.hookpoints)}"
        )
    if block >= n_layers:
        raise UserError(f"hookpoint {hookpoint!r}: the model has blocks 0 to {n_layers - 1}")
    prefix = f"{model.base_model_prefix}.{layout.blocks}.{block}"
    path = f"{prefix}.{point.module}" if point.module else prefix
    module = _find_module(model, path, hookpoint)
    width = _input_width(module) if name in ("attn_z", "mlp_act") else int(model.config.hidden_size)
    return ResolvedHookpoint(hookpoint, path, point.side, width, point.replaceable)


def _find_module(model: Any, path: str, hookpoint: str) -> nn.Module:
    try:
        module: nn.Module = model.get_submodule(path)
    except AttributeError:
        raise UserError(f"hookpoint {hookpoint!r}: {type(model).__name__} has no module {path!r}") from None
    return module


def _input_width(projection: nn.Module) -> int:
    if isinstance(projection, nn.Linear):
        return projection.in_features
    weight = projection.weight
    assert isinstance(weight, nn.Parameter)
    return int(weight.shape[0])  # Transformers' Conv1D stores (in, out)
