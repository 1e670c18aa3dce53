"""Gemma Scope 1 and 2: JumpReLU dictionaries and transcoders without b_dec taken from the input.

Gemma Scope (Lieberum et al. 2024, arXiv 2408.05147) has ``params.npz`` below
``layer_L/width_W/average_l0_N``: only the folders say layer, hookpoint and mean L0. The dictionaries of
the embedding saw it without the factor sqrt(d_model) that Gemma gives it. Gemma Scope 2 has
``params.safetensors``, beside it a ``config.json`` that names the sides of modules, and transcoders with an
affine path (D, E).
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import from_module_side, known
from tasks.foreign.config_keys import Keys, check_keys, flag, report_tensors
from tasks.foreign.format import FORMATS, Format
from tasks.foreign.record import Foreign, Kind
from tasks.foreign.tensor_files import read_json, read_stored

WEIGHTS_FILES, CONFIG_FILE = ("params.npz", "params.safetensors"), "config.json"
_LAYER, _L0 = re.compile(r"layer_(\d+)"), re.compile(r"average_l0_(\d+)")
_EMBEDDING = re.compile(r"(?<![a-z])embedding(?![a-z])")
_HOOKPOINTS = {
    "resid_post": re.compile(r"-res(?![a-z])|/resid_post"),
    "attn_z": re.compile(r"-att(?![a-z])|/attn_out"),
    "mlp_out": re.compile(r"-mlp(?![a-z])|/mlp_out"),
}
_NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "affine_skip_connection": "W_skip"}
_KEYS = Keys(
    read=frozenset(("hf_hook_point_in", "hf_hook_point_out", "affine_connection")),
    harmless=frozenset(("model_name", "width", "l0", "layer", "site", "type", "hook_name")),
    allowed={"architecture": ("jump_relu", "jumprelu")},
)
_TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")


@FORMATS.register("gemma_scope")
class GemmaScope(Format):
    """Reads one file of parameters, or the folder that holds it."""

    purpose = "reads parameters of Gemma Scope 1 and 2"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The dictionary of a file."""
        weights = _weights_file(path)
        tensors = _tensors(weights, allow_pickle=allow_pickle)
        beside = weights.with_name(CONFIG_FILE)
        config = read_json(beside) if beside.is_file() else {}
        check_keys(beside, config, _KEYS)
        if flag(beside, config, "affine_connection", default="W_skip" in tensors) != ("W_skip" in tensors):
            raise UserError(
                f"{beside} says affine_connection {config['affine_connection']}, the tensors disagree"
            )
        report_tensors(weights, tensors, (*_TENSORS, "W_skip", "threshold", "scaling_factor"))
        place = weights.absolute().as_posix()
        kind = _kind(place, config)
        reads, writes = _hookpoints(place, config, kind)
        l0 = _L0.search(place)
        return Foreign(
            source=str(weights),
            activation="jumprelu",
            kind=kind,
            W_enc=tensors["W_enc"],
            W_dec=tensors["W_dec"],
            b_enc=tensors["b_enc"],
            b_dec=tensors["b_dec"],
            W_skip=tensors.get("W_skip"),
            threshold=tensors.get("threshold"),
            k=int(l0[1]) if l0 else None,
            centred=False,
            scale=tensors["W_enc"].shape[0] ** -0.5 if _is_of_embedding(place) else 1.0,
            reads=reads,
            writes=writes,
            described=config,
        )


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in WEIGHTS_FILES if (path / name).is_file()]
    return found[0] if found else path / WEIGHTS_FILES[0]


def _tensors(weights: Path, *, allow_pickle: bool) -> dict[str, Tensor]:
    stored = read_stored(weights, allow_pickle=allow_pickle).tensors
    tensors = {_NAMES.get(name, name): tensor for name, tensor in stored.items()}
    missing = [name for name in _TENSORS if name not in tensors]
    if missing:
        raise UserError(f"{weights} has no {missing[0]}; it has {', '.join(sorted(tensors))}")
    if tensors["W_dec"].ndim == 3:
        raise UserError(
            f"{weights} writes {tensors['W_dec'].shape[1]} layers: featlas reads transcoders of one layer"
        )
    factor = tensors.get("scaling_factor")
    if factor is not None and not torch.allclose(factor, torch.ones_like(factor)):
        raise UserError(f"{weights} has a scaling_factor other than 1, whose meaning is not published")
    return tensors


def _kind(place: str, config: Mapping[str, Any]) -> Kind:
    """By the configuration, else by the folders, where a hookpoint of autoencoders outweighs "transcoder"."""
    if config:
        return "transcoder" if config.get("hf_hook_point_out") else "autoencoder"
    return "transcoder" if "transcoder" in place and _hookpoint(place) is None else "autoencoder"


def _is_of_embedding(place: str) -> bool:
    return _LAYER.search(place) is None and _EMBEDDING.search(place) is not None


def _hookpoint(place: str) -> str | None:
    return next((name for name, mark in _HOOKPOINTS.items() if mark.search(place)), None)


def _hookpoints(place: str, config: Mapping[str, Any], kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Hookpoints read and written: by the configuration, else by the names of the folders."""
    named = known(from_module_side(config.get("hf_hook_point_in")))
    if named:
        written = known(from_module_side(config.get("hf_hook_point_out")))
        return (named, written) if kind == "transcoder" else (named, named)
    layer = _LAYER.search(place)
    if layer is None:
        embedded = ("blocks.0.resid_pre",) if _is_of_embedding(place) else ()
        return embedded, embedded
    block = f"blocks.{layer[1]}"
    if kind == "transcoder":
        return (f"{block}.mlp_in",), (f"{block}.mlp_out",)
    name = _hookpoint(place)
    here = (f"{block}.{name}",) if name else ()
    return here, here
