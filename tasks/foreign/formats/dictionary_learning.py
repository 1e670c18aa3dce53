"""Folders of dictionary_learning: a pickled ``ae.pt`` with ``config.json`` that names its class.

Conventions of saprmarks/dictionary_learning 0.1. BatchTopK and Matryoshka encode with the threshold they
learned; loaded as ReLU they run and are wrong. A half-finished ``ae.pt`` is a backup ``{step, ae, optimizer,
config, norm_factor}`` whose biases are still in the units of the training.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.foreign.config_keys import Keys, check_keys, check_sizes, report_tensors, whole
from tasks.foreign.format import FORMATS, Format
from tasks.foreign.record import Foreign
from tasks.foreign.tensor_files import Stored, read_json, read_stored

CONFIG_FILE, WEIGHTS_FILE, SAFE_WEIGHTS_FILE = "config.json", "ae.pt", "ae.safetensors"
_BACKUP = "ae."
_KIND = re.compile(r"(resid|residual|attn|attention|mlp)", re.IGNORECASE)
_SIDE, _SIDES = "side of the submodule", ("in", "out")
_READ_BY = {"mlp_out": "mlp_in", "resid_post": "resid_pre"}
"""What the submodule reads, by what it writes; what an attention reads is no hookpoint of ours."""
_TENSORS: tuple[str, ...] = (
    "encoder.weight",
    "encoder.bias",
    "decoder.weight",
    "decoder.bias",
    "bias",
    "gate_bias",
    "mag_bias",
)
_TENSORS += ("decoder_bias", "r_mag", "b_dec", "k", "threshold", "W_enc", "b_enc", "W_dec", "group_sizes")
_HARMLESS = """
    anneal_end anneal_start auxk_alpha bandwidth decay_start device ghost_threshold group_fractions
    group_sizes group_weights initial_sparsity_penalty l1_penalty lr n_sparsity_updates p_end p_start
    resample_steps seed sparsity_function sparsity_penalty sparsity_queue_length sparsity_warmup_steps
    steps target_l0 threshold_beta threshold_start_step top_k_aux trainer_class wandb_name warmup_steps
"""
_KEYS = Keys(
    read=frozenset(
        ("dict_class", "activation_dim", "dict_size", "k", "layer", "submodule_name", "lm_name", _SIDE)
    ),
    harmless=frozenset(_HARMLESS.split()),
)
"""What the trainers of the package write; sizes of groups and thresholds are in the tensors."""
_NAMES = {"attn": "attn_out", "attention": "attn_out", "mlp": "mlp_out"}


@FORMATS.register("dictionary_learning")
class DictionaryLearning(Format):
    """Reads the folder of one trainer, or its weights file."""

    purpose = "reads trainers of saprmarks/dictionary_learning"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The autoencoder of a folder."""
        folder = path if path.is_dir() else path.parent
        weights = path if path.is_file() else folder / WEIGHTS_FILE
        if path.is_dir() and (folder / SAFE_WEIGHTS_FILE).is_file():
            weights = folder / SAFE_WEIGHTS_FILE
        config = _trainer_config(folder)
        check_keys(folder / CONFIG_FILE, config, _KEYS)
        stored = _without_backup(read_stored(weights, allow_pickle=allow_pickle))
        tensors = stored.tensors
        reader = _READERS[_class_name(weights, config, tensors)]
        try:
            fields = reader(tensors)
        except KeyError as error:
            raise UserError(f"{weights} has no {error.args[0]}: not the class of config.json") from error
        where = folder / CONFIG_FILE
        if "k" in tensors:
            check_sizes(where, config, {"k": int(tensors["k"])})
        report_tensors(weights, tensors, _TENSORS)
        hookpoint = _hookpoint(config)
        named = config.get("lm_name")
        factor = stored.values.get("norm_factor")
        return Foreign(
            source=str(weights),
            scale=1 / float(factor) if isinstance(factor, int | float) and factor > 0 else 1.0,
            k=int(tensors["k"]) if "k" in tensors else whole(where, config, "k"),
            reads=hookpoint,
            writes=hookpoint,
            model_name=str(named) if named else None,
            described=config,
            **fields,
        )


def _trainer_config(folder: Path) -> dict[str, Any]:
    """The section ``trainer`` of config.json, beside the weights or above a folder of checkpoints."""
    for place in (folder, folder.parent):
        if (place / CONFIG_FILE).is_file():
            config = read_json(place / CONFIG_FILE)
            trainer, buffer = config.get("trainer"), config.get("buffer")
            side = buffer.get("io") if isinstance(buffer, dict) else None
            if side not in (*_SIDES, None):
                raise UserError(
                    f"{place / CONFIG_FILE}: featlas cannot read buffer.io {side!r}; it reads "
                    f"{' and '.join(_SIDES)}"
                )
            return {**(trainer if isinstance(trainer, dict) else {}), _SIDE: side}
    return {}


def _without_backup(stored: Stored) -> Stored:
    inner = {name.removeprefix(_BACKUP): t for name, t in stored.tensors.items() if name.startswith(_BACKUP)}
    if not inner:
        return Stored(stored.tensors)
    return Stored(inner, stored.values)


def _class_name(path: Path, config: dict[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """What config.json says; without one, what the names of the tensors leave no doubt about."""
    name = config.get("dict_class")
    if name is not None:
        if name not in _READERS:
            raise UserError(f"{path}: featlas cannot read the class {name!r}; it reads {', '.join(_READERS)}")
        return str(name)
    for tensor, named in (
        ("gate_bias", "GatedAutoEncoder"),
        ("group_sizes", "MatryoshkaBatchTopKSAE"),
        ("decoder.bias", "AutoEncoderNew"),
        ("bias", "AutoEncoder"),
    ):
        if tensor in tensors:
            return named
    if "W_enc" in tensors and "k" not in tensors:
        return "JumpReluAutoEncoder"
    raise UserError(
        f"{path}: AutoEncoderTopK and BatchTopKSAE have the same tensors: put the {CONFIG_FILE} of the "
        "training, which names the class, beside it"
    )


def _hookpoint(config: dict[str, Any]) -> tuple[str, ...]:
    layer = config.get("layer")
    if type(layer) is not int:
        return ()
    kind = _KIND.search(str(config.get("submodule_name") or ""))
    name = _NAMES.get(kind[0].lower(), "resid_post") if kind else "resid_post"
    if config.get(_SIDE) == "in":
        return (f"blocks.{layer}.{_READ_BY[name]}",) if name in _READ_BY else ()
    return (f"blocks.{layer}.{name}",)


def _linear(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Encoder and decoder that are ``nn.Linear``: (L, D) and (D, L)."""
    return {
        "W_enc": tensors["encoder.weight"].mT.contiguous(),
        "W_dec": tensors["decoder.weight"].mT.contiguous(),
    }


def _standard(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    biases = {"b_enc": tensors["encoder.bias"], "b_dec": tensors["bias"]}
    return {"activation": "relu", **_linear(tensors), **biases}


def _april(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    biases = {"b_enc": tensors["encoder.bias"], "b_dec": tensors["decoder.bias"]}
    return {"activation": "relu", "centred": False, **_linear(tensors), **biases}


def _gated(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    biases = {"b_enc": tensors["gate_bias"], "b_mag": tensors["mag_bias"], "b_dec": tensors["decoder_bias"]}
    return {"activation": "gated", "r_mag": tensors["r_mag"], **_linear(tensors), **biases}


def _topk(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    biases = {"b_enc": tensors["encoder.bias"], "b_dec": tensors["b_dec"]}
    return {"activation": "topk", **_linear(tensors), **biases}


def _batch_topk(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {**_topk(tensors), "activation": "batch_topk", "threshold": _learned_threshold(tensors)}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: tensors[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


def _matryoshka(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    groups = tuple(int(size) for size in tensors["group_sizes"])
    threshold = _learned_threshold(tensors)
    return {"activation": "batch_topk", "threshold": threshold, "groups": groups, **_plain(tensors)}


def _jumprelu(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    threshold = tensors["threshold"]
    return {"activation": "jumprelu", "threshold": threshold, "centred": False, **_plain(tensors)}


def _learned_threshold(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """None where it was never learned: it starts at -1, which lets every positive activation pass."""
    threshold = tensors["threshold"]
    return threshold if bool(torch.all(threshold >= 0)) else None


_READERS = {
    "AutoEncoder": _standard,
    "AutoEncoderNew": _april,
    "GatedAutoEncoder": _gated,
    "AutoEncoderTopK": _topk,
    "BatchTopKSAE": _batch_topk,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "JumpReluAutoEncoder": _jumprelu,
}
