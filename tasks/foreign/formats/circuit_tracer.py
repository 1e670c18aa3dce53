"""Transcoders of circuit-tracer: one ``layer_N.safetensors`` for each layer, ``config.yaml`` for all.

Conventions of circuit-tracer 0.5: ``W_enc`` (L, D) and ``W_dec`` (L, E) both have one latent per row,
``W_skip`` is (E, D), a JumpReLU has ``activation_function.threshold``. The configuration names the hookpoints
within a block. Cross-layer transcoders are not read.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import TRANSFORMER_LENS, Hookpoint, from_transformer_lens, known
from tasks.common.plain_files import read_yaml
from tasks.foreign.config_keys import Keys, check_keys, report_tensors
from tasks.foreign.format import FORMATS, Format, Written
from tasks.foreign.record import Foreign
from tasks.foreign.tensor_files import read_stored

CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "layer_{}.safetensors"
_LAYER = re.compile(r"layer_(\d+)")
_THRESHOLD = "activation_function.threshold"
_TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec")
_SAID = ("model_name", "model_kind", "feature_input_hook", "feature_output_hook", "scan")
_KEYS = Keys(
    read=frozenset(_SAID),
    harmless=frozenset(
        ("repo_id", "revision", "transcoders", "subfolder", "layers", "n_layers", "dtype", "url")
    ),
)
_WRITABLE = ("transcoder", "jumprelu_transcoder")


@FORMATS.register("circuit_tracer")
class CircuitTracer(Format):
    """Reads and writes the transcoder of one layer."""

    purpose = "reads and writes transcoders of one layer for circuit-tracer"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The transcoder of a file, or of a folder that holds one."""
        weights = _weights_file(path)
        config = _config(weights.with_name(CONFIG_FILE))
        tensors = read_stored(weights, allow_pickle=allow_pickle).tensors
        missing = [name for name in _TENSORS if name not in tensors]
        if missing:
            raise UserError(f"{weights} has no {missing[0]}; it has {', '.join(sorted(tensors))}")
        report_tensors(weights, tensors, (*_TENSORS, _THRESHOLD, "W_skip"))
        threshold = tensors.get(_THRESHOLD)
        if threshold is not None and bool((threshold < 0).any()):
            raise UserError(f"{weights} has thresholds below 0, with which latents may be negative")
        layer = _LAYER.search(weights.name)
        reads, writes = (
            known(from_transformer_lens(f"blocks.{layer[1]}.{config.get(name)}")) if layer else ()
            for name in ("feature_input_hook", "feature_output_hook")
        )
        return Foreign(
            source=str(weights),
            activation="relu" if threshold is None else "jumprelu",
            kind="transcoder",
            W_enc=tensors["W_enc"].mT.contiguous(),
            W_dec=tensors["W_dec"],
            b_enc=tensors["b_enc"],
            b_dec=tensors["b_dec"],
            W_skip=tensors["W_skip"].mT.contiguous() if "W_skip" in tensors else None,
            threshold=threshold,
            centred=False,
            reads=reads,
            writes=writes,
            model_name=config.get("model_name"),
            described=config,
        )

    def write(self, written: Written, folder: Path) -> None:
        """Write the file of a layer and a configuration; files of several layers make a set in one folder."""
        dictionary, architecture = written.dictionary, written.dictionary.config.architecture
        if architecture not in _WRITABLE or dictionary.config.input_norm != "none":
            raise UserError(f"circuit-tracer has only {' and '.join(_WRITABLE)}, not {architecture}")
        read, wrote = (Hookpoint.in_block(name) for name in (written.reads[0], written.writes[0]))
        if read is None or wrote is None or read.layer != wrote.layer:
            raise UserError(
                "circuit-tracer knows transcoders within a block, "
                f"not from {written.reads[0]} to {written.writes[0]}"
            )
        if dictionary.d_in != dictionary.d_out:
            raise UserError(
                f"circuit-tracer needs equal widths, not {dictionary.d_in} and {dictionary.d_out}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_tensors(dictionary.state_dict()), folder / WEIGHTS_FILE.format(read.layer))
        config = {
            "model_name": written.model_name,
            "model_kind": "transcoder_set",
            "feature_input_hook": TRANSFORMER_LENS.get(read.name, read.name),
            "feature_output_hook": TRANSFORMER_LENS.get(wrote.name, wrote.name),
            **written.described,
        }
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False))


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(file for file in path.glob("*.safetensors") if _LAYER.search(file.name))
    if len(found) != 1:
        raise UserError(
            f"{path} holds {len(found)} files layer_N.safetensors: name the one of the layer to import"
        )
    return found[0]


def _config(path: Path) -> dict[str, str]:
    """What is known of the set: plain strings alone, for a YAML may refer to itself without end.

    Raises:
        UserError: when it is too large, no YAML mapping, or of a cross-layer transcoder.
    """
    if not path.is_file():
        return {}
    value = read_yaml(path)
    if not isinstance(value, Mapping):
        raise UserError(f"{path} is not a YAML mapping: fetch the transcoders again")
    check_keys(path, value, _KEYS)
    said = {name: value[name] for name in _SAID if isinstance(value.get(name), str)}
    if said.get("model_kind") == "cross_layer_transcoder":
        raise UserError(f"{path} is of a cross-layer transcoder: featlas reads transcoders of one layer")
    return said


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {
        "W_enc": state["W_enc"].T,
        "W_dec": state["W_dec"],
        "b_enc": state["b_enc"],
        "b_dec": state["b_dec"],
    }
    if "threshold" in state:
        tensors[_THRESHOLD] = state["threshold"]
    if "W_skip" in state:
        tensors["W_skip"] = state["W_skip"].T
    return {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
