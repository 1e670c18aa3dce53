"""The layout of our architectures in a SAELens folder: names, tensors, settings.

Legend: D d_in, E d_out, L d_sae. If SAELens has the architecture, it can load the folder: thresholds are
per latent, the bias of a gate is ``b_gate``, ``W_skip`` is (E, D), matching pursuit has no encoder. An
architecture that SAELens does not have keeps its own name and tensors.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.saelens_form import SaelensForm

SAELENS_VERSION = "6.54.12"
"""Version whose conventions are written; without a version SAELens assumes a folder before 6.0."""
_NORMS = {"none": "none", "layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}


def saelens_tensors(dictionary: Dictionary) -> dict[str, Tensor]:
    """The tensors of the file: float32, contiguous, on the CPU."""
    form = _form(dictionary)
    tensors: dict[str, Tensor] = {}
    for name, tensor in dictionary.state_dict().items():
        if name in form.left_out:
            continue
        value = tensor.detach().to("cpu", torch.float32)
        if name == "threshold":
            value = value.expand(dictionary.d_sae)
        tensors[form.renamed.get(name, name)] = (value.T if name == "W_skip" else value).contiguous()
    return tensors


def left_out(dictionary: Dictionary) -> dict[str, float]:
    """Single numbers that the file has no tensor for, by name."""
    state = dictionary.state_dict()
    return {name: float(state[name]) for name in _form(dictionary).left_out if state[name].ndim == 0}


def own_tensors(
    dictionary: Dictionary, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> dict[str, Tensor]:
    """The state of ``dictionary`` from the results of `saelens_tensors` and `left_out`."""
    form, own = _form(dictionary), dictionary.state_dict()
    ours = {theirs: name for name, theirs in form.renamed.items()}
    state = {ours.get(name, name): tensor for name, tensor in tensors.items()}
    if "threshold" in state and own["threshold"].ndim == 0:
        state["threshold"] = state["threshold"][0]
    if "W_skip" in state:
        state["W_skip"] = state["W_skip"].T
    if "W_enc" in form.left_out:
        state["W_enc"] = state["W_dec"].T
    if "b_enc" in form.left_out:
        state["b_enc"] = own["b_enc"]
    return state | {name: torch.tensor(number) for name, number in numbers.items()}


def saelens_config(dictionary: Dictionary, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``cfg.json``: what SAELens 6 needs to use the tensors, and ``metadata``."""
    form = _form(dictionary)
    config: dict[str, Any] = {
        "architecture": form.name,
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
    config |= form.settings
    return config


def _is_by_head(metadata: Mapping[str, Any]) -> bool:
    """Whether TransformerLens has the inputs by head; SAELens then concatenates the heads."""
    return str(metadata.get("hook_name", "")).endswith(".attn.hook_z")


def _form(dictionary: Dictionary) -> SaelensForm:
    return dictionary.saelens() or SaelensForm(dictionary.config.encodes_as)
