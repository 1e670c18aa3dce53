"""SAELens' temporal dictionaries: attention over the codes of earlier tokens, added to a plain dictionary.

Conventions of decoderesearch/SAELens 6.54. Tied weights have no ``W_enc``: the transpose of ``W_dec``
encodes, and ``b_dec`` is added to the output only if it was taken from the input. There is no ``b_enc``.

The authors of the method (canrager/temporalSAEs) publish ``layer_L/temporal`` with ``conf.yaml`` and
``latest_ckpt.safetensors``, which has D, E and b for W_dec, W_enc and b_dec; SAELens loads these as well.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.common.plain_files import read_yaml
from tasks.foreign.config_keys import Keys, check_keys
from tasks.foreign.record import Attention, Foreign
from tasks.foreign.tensor_files import Stored, read_stored

ARCHITECTURE = "temporal"
PUBLISHED_CONFIG, PUBLISHED_WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
_NAMES = {"D": "W_dec", "E": "W_enc", "b": "b_dec"}
_SETTINGS = ("n_heads", "n_attn_layers", "bottleneck_factor", "sae_diff_type", "kval_topk", "tied_weights")
_SCALED = "constant_scalar_rescale"


_KEYS = Keys(read=frozenset(), allowed={"sae_diff_type": ("topk", "relu"), "tied_weights": (True, False)})


def published(folder: Path) -> tuple[dict[str, Any], Stored]:
    """A folder as the authors publish it, in the form that SAELens saves: configuration and tensors."""
    settings, stored = _published_settings(folder / PUBLISHED_CONFIG), read_stored(folder / PUBLISHED_WEIGHTS)
    config: dict[str, Any] = {name: settings[name] for name in _SETTINGS if name in settings}
    config |= {"architecture": ARCHITECTURE, "apply_b_dec_to_input": True, "normalize_activations": _SCALED}
    config["activation_normalization_factor"] = settings.get("scaling_factor")
    layer = re.findall(r"layer_(\d+)", str(folder.absolute()))
    config["metadata"] = {"hook_name": f"blocks.{layer[-1]}.hook_resid_post"} if layer else {}
    tensors = {_NAMES.get(name, name): tensor for name, tensor in stored.tensors.items()}
    return config, Stored(tensors, stored.values)


def _published_settings(path: Path) -> dict[str, Any]:
    """The section ``sae`` of a configuration."""
    config = read_yaml(path)
    if not isinstance(config, dict) or not isinstance(config.get("sae"), dict):
        raise UserError(f"{path} has no section sae, which says how the dictionary encodes")
    return dict(config["sae"])


def plain_folder(source: str, config: Mapping[str, Any], stored: Stored) -> tuple[dict[str, Any], Stored]:
    """The plain dictionary (``standard`` or ``topk``) that is left without the attention layers."""
    tensors = {name: value for name, value in stored.tensors.items() if not name.startswith("attn_layers.")}
    if "W_dec" not in tensors or "b_dec" not in tensors:
        raise UserError(
            f"{source}: its file needs W_dec and b_dec; it has {', '.join(sorted(stored.tensors))}"
        )
    tensors["b_enc"] = torch.zeros(len(tensors["W_dec"]))
    if config.get("tied_weights", True):
        tensors["W_enc"] = tensors["W_dec"].T.contiguous()
        if not config.get("apply_b_dec_to_input", True):
            tensors["b_dec"] = torch.zeros_like(tensors["b_dec"])
    check_keys(source, {name: value for name, value in config.items() if name in _KEYS.allowed}, _KEYS)
    k = config.get("kval_topk") if config.get("sae_diff_type", "topk") == "topk" else None
    plain = {**config, "architecture": "standard" if k is None else "topk", "k": k}
    if config.get("normalize_activations") == _SCALED:
        plain["normalize_activations"] = "none"
    return plain, Stored(tensors, stored.values)


def with_attention(foreign: Foreign, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Foreign:
    """The plain dictionary with its attention layers, and the factor of its inputs.

    Raises:
        UserError: when layers are missing, or do not have the shapes that the configuration says.
    """
    source, d_sae = foreign.source, foreign.d_sae
    n_layers, n_heads = (_count(source, config, name) for name in ("n_attn_layers", "n_heads"))
    bottleneck = _count(source, config, "bottleneck_factor")
    if d_sae % (n_heads * bottleneck):
        raise UserError(
            f"{source}: {d_sae} latents are not a multiple of n_heads {n_heads} times bottleneck_factor "
            f"{bottleneck}"
        )
    layers: dict[str, Tensor] = {}
    for number in range(n_layers):
        for name, width in (("k_ctx", d_sae // bottleneck), ("q_target", d_sae // bottleneck)):
            layers |= _linear(source, tensors, f"attn_layers.{number}.{name}", (width, d_sae))
        for name in ("v_ctx", "c_proj"):
            layers |= _linear(source, tensors, f"attn_layers.{number}.{name}", (d_sae, d_sae))
    unknown = sorted(name for name in tensors if name.startswith("attn_layers.") and name not in layers)
    if unknown:
        raise UserError(f"{source}: {unknown[0]} belongs to none of the {n_layers} layers of its cfg.json")
    attention = Attention(n_heads, n_layers, bottleneck, layers)
    return foreign.with_(attention=attention, scale=_scale(source, config), described=config)


def _scale(source: str, config: Mapping[str, Any]) -> float:
    if config.get("normalize_activations") != _SCALED:
        return 1.0
    scale = config.get("activation_normalization_factor", 1.0)
    if not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise UserError(f"{source}: the factor of its inputs is {scale!r}, not a positive number")
    return float(scale)


def _count(source: str, config: Mapping[str, Any], name: str) -> int:
    value = config.get(name, {"n_attn_layers": 1, "n_heads": 8, "bottleneck_factor": 64}[name])
    if not isinstance(value, int) or value < 1:
        raise UserError(f"{source}: {name} is {value!r}, not a positive whole number")
    return value


def _linear(
    source: str, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, int]
) -> dict[str, Tensor]:
    """Weight and bias of a linear map, checked."""
    parts = {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for part, expected in parts.items():
        found = tuple(tensors[part].shape) if part in tensors else None
        if found != expected:
            said = "is missing" if found is None else f"has the shape {found}, not {expected}"
            raise UserError(f"{source}: {part} {said}")
        if not bool(tensors[part].isfinite().all()):
            raise UserError(f"{source}: {part} has values that are NaN or infinite: fetch it again")
    return {part: tensors[part] for part in parts}
