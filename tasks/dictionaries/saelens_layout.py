"""The layout of our architectures in a SAELens folder: names, tensors, settings.

Legend: D d_in, E d_out, L d_sae. If SAELens has the architecture, it can load the folder: thresholds are
per latent, the bias of a gate is ``b_gate``, ``W_skip`` is (E, D), matching pursuit has no encoder. An
architecture that SAELens does not have keeps its own name and tensors.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary

SAELENS_VERSION = "6.54.12"
"""Version whose conventions are written; without a version SAELens assumes a folder before 6.0."""
_NORMS = {"none": "none", "layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}


class _Place(NamedTuple):
    """Name in SAELens, and tensors that have another name there or none."""

    name: str
    renamed: Mapping[str, str] = {}
    left_out: tuple[str, ...] = ()


_THRESHOLD = _Place("jumprelu")
_PLACES = {
    "relu_l1": _Place("standard"),
    "topk": _Place("topk"),
    "jumprelu": _THRESHOLD,
    "batch_topk": _THRESHOLD,
    "matryoshka_batch_topk": _THRESHOLD,
    "mutual_choice": _THRESHOLD,
    "feature_choice": _THRESHOLD,
    "gated": _Place("gated", {"b_enc": "b_gate"}),
    "matching_pursuit": _Place("matching_pursuit", left_out=("W_enc", "b_enc", "residual_threshold")),
    "temporal": _Place("temporal", left_out=("b_enc", "epsilon")),
    "transcoder": _Place("transcoder"),
    "jumprelu_transcoder": _Place("jumprelu_transcoder"),
}
_GROUPED = _Place("groupmax")
_WITH_SKIP = {"transcoder": "skip_transcoder", "jumprelu_transcoder": "jumprelu_skip_transcoder"}


def has_saelens_architecture(dictionary: Dictionary) -> bool:
    """Whether SAELens can use such a dictionary."""
    return _place(dictionary).name in {place.name for place in _PLACES.values()}


def saelens_tensors(dictionary: Dictionary) -> dict[str, Tensor]:
    """The tensors of the file: float32, contiguous, on the CPU."""
    place = _place(dictionary)
    tensors: dict[str, Tensor] = {}
    for name, tensor in dictionary.state_dict().items():
        if name in place.left_out:
            continue
        value = tensor.detach().to("cpu", torch.float32)
        if name == "threshold":
            value = value.expand(dictionary.d_sae)
        tensors[place.renamed.get(name, name)] = (value.T if name == "W_skip" else value).contiguous()
    return tensors


def left_out(dictionary: Dictionary) -> dict[str, float]:
    """Single numbers that the file has no tensor for, by name."""
    state = dictionary.state_dict()
    return {name: float(state[name]) for name in _place(dictionary).left_out if state[name].ndim == 0}


def own_tensors(
    dictionary: Dictionary, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> dict[str, Tensor]:
    """The state of ``dictionary`` from the results of `saelens_tensors` and `left_out`."""
    place, own = _place(dictionary), dictionary.state_dict()
    ours = {theirs: name for name, theirs in place.renamed.items()}
    state = {ours.get(name, name): tensor for name, tensor in tensors.items()}
    if "threshold" in state and own["threshold"].ndim == 0:
        state["threshold"] = state["threshold"][0]
    if "W_skip" in state:
        state["W_skip"] = state["W_skip"].T
    if "W_enc" in place.left_out:
        state["W_enc"] = state["W_dec"].T
    if "b_enc" in place.left_out:
        state["b_enc"] = own["b_enc"]
    return state | {name: torch.tensor(number) for name, number in numbers.items()}


def saelens_config(dictionary: Dictionary, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``cfg.json``: what SAELens 6 needs to use the tensors, and ``metadata``."""
    place, settings = _place(dictionary), dictionary.config.canonical()
    has_skip = "W_skip" in dictionary.state_dict()
    config: dict[str, Any] = {
        "architecture": _WITH_SKIP.get(place.name, place.name) if has_skip else place.name,
        "d_in": dictionary.d_in,
        "d_sae": dictionary.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": dictionary.centre() is not None,
        "normalize_activations": _NORMS[dictionary.config.input_norm],
        "reshape_activations": "hook_z" if _is_by_head(metadata) else "none",
        "metadata": {
            "sae_lens_version": SAELENS_VERSION,
            "sae_lens_training_version": None,
            **metadata,
        },
    }
    if not dictionary.reconstructs_input:
        config["d_out"] = dictionary.d_out
    if place.name == "topk":
        config |= {"k": settings["k"], "rescale_acts_by_decoder_norm": False}
    if place.name == "temporal":
        config |= {name: settings[name] for name in ("n_heads", "bottleneck_factor")}
        config |= {"n_attn_layers": settings["n_layers"], "kval_topk": settings["k"], "tied_weights": False}
        config["sae_diff_type"] = "relu" if settings["k"] is None else "topk"
    if place.name == "matching_pursuit":
        config |= {"max_iterations": settings["k"], "stop_on_duplicate_support": settings["stop_on_repeat"]}
        config["residual_threshold"] = float(
            dictionary.state_dict().get("residual_threshold", torch.zeros(()))
        )
    return config


def _is_by_head(metadata: Mapping[str, Any]) -> bool:
    """Whether TransformerLens has the inputs by head; SAELens then concatenates the heads."""
    return str(metadata.get("hook_name", "")).endswith(".attn.hook_z")


def _place(dictionary: Dictionary) -> _Place:
    architecture = dictionary.config.architecture
    if getattr(dictionary.config, "one_per_group", False):
        return _GROUPED
    return _PLACES.get(architecture, _Place(architecture))
