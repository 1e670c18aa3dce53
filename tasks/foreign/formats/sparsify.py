"""Folders of sparsify: ``cfg.json`` with ``sae.safetensors``, named after the module they belong to.

Conventions of EleutherAI/sparsify 1.3: TopK of the rectified pre-activations, or the largest of each of k
groups (groupmax), b_dec taken from the input unless it is a transcoder, rows of ``W_dec`` are directions. A
transcoder reads the input of its module and writes the output. Folders of clt-training are read where
they hold one target, see ``clt_training``.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import from_module_path, known, module_path
from tasks.foreign.clt_training import of_one_target, without_norms
from tasks.foreign.config_keys import Keys, check_keys, flag, report_tensors, whole
from tasks.foreign.format import FORMATS, Format, Written
from tasks.foreign.record import Activation, Foreign
from tasks.foreign.tensor_files import read_json, read_stored

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae.safetensors"
_ACTIVATIONS: dict[str, Activation] = {"topk": "topk", "groupmax": "group_max"}
_KEYS = Keys(
    read=frozenset(
        (
            "activation",
            "k",
            "num_latents",
            "d_in",
            "transcode",
            "skip_connection",
            "coalesce_topk",
            "n_sources",
        )
    ),
    # W_dec is saved normalised; the others belong to the training or say where it was made
    harmless=frozenset(
        ("expansion_factor", "normalize_decoder", "multi_topk", "hookpoint", "n_targets", "normalize_io")
    ),
    allowed={"signed": (False, None)},
)
_TENSORS = ("encoder.weight", "encoder.bias", "W_dec", "b_dec", "W_skip", "in_norm", "out_norm")
_WRITABLE = ("topk", "topk_transcoder", "skip_transcoder")


@FORMATS.register("sparsify")
class Sparsify(Format):
    """Reads and writes the folder of one sparse coder."""

    purpose = "reads and writes folders of EleutherAI/sparsify, reads single-target ones of clt-training"

    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The sparse coder of a folder (or of its weights file)."""
        folder = path if path.is_dir() else path.parent
        config = read_json(folder / CONFIG_FILE)
        activation = config.get("activation", "topk")
        if activation not in _ACTIVATIONS:
            raise UserError(
                f"{folder / CONFIG_FILE}: featlas has no dictionary with the activation {activation!r}; it "
                f"reads {', '.join(_ACTIVATIONS)}"
            )
        where = folder / CONFIG_FILE
        check_keys(where, config, _KEYS)
        stored = read_stored(folder / WEIGHTS_FILE, allow_pickle=allow_pickle).tensors
        tensors = of_one_target(str(folder / WEIGHTS_FILE), config, stored)
        missing = {"encoder.weight", "encoder.bias", "W_dec", "b_dec"} - set(tensors)
        if missing:
            raise UserError(f"{folder / WEIGHTS_FILE} has no {min(missing)}: it is not a single sparse coder")
        is_transcoder = flag(where, config, "transcode", default=False)
        if flag(where, config, "skip_connection", default="W_skip" in tensors) != ("W_skip" in tensors):
            raise UserError(f"{where} says skip_connection {config['skip_connection']}, the tensors disagree")
        report_tensors(folder / WEIGHTS_FILE, tensors, _TENSORS)
        writes = known(from_module_path(folder.name))
        reads = known(*(name.replace(".mlp_out", ".mlp_in") for name in writes)) if is_transcoder else writes
        foreign = Foreign(
            source=str(folder),
            activation=_ACTIVATIONS[activation],
            kind="transcoder" if is_transcoder else "autoencoder",
            W_enc=tensors["encoder.weight"].mT.contiguous(),
            W_dec=tensors["W_dec"],
            b_enc=tensors["encoder.bias"],
            b_dec=tensors["b_dec"],
            k=whole(where, config, "k"),
            W_skip=tensors["W_skip"].mT.contiguous() if "W_skip" in tensors else None,
            centred=not is_transcoder,
            reads=reads,
            writes=writes,
            described=config,
        )
        return without_norms(foreign, tensors)

    def write(self, written: Written, folder: Path) -> None:
        """Write a folder that sparsify loads; its name should be that of the module."""
        dictionary, settings = written.dictionary, written.dictionary.config.canonical()
        if settings["architecture"] not in _WRITABLE or settings["token_norm"] != "none":
            raise UserError(
                f"sparsify has only TopK dictionaries ({', '.join(_WRITABLE)}), "
                f"not {settings['architecture']} with token_norm {settings['token_norm']}"
            )
        if dictionary.d_in != dictionary.d_out:
            raise UserError(f"sparsify needs equal widths, not {dictionary.d_in} and {dictionary.d_out}")
        tensors = _tensors(dictionary.state_dict())
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS_FILE)
        config: dict[str, Any] = {
            "activation": "groupmax" if settings["one_per_group"] else "topk",
            "expansion_factor": max(dictionary.d_sae // dictionary.d_in, 1),
            "normalize_decoder": dictionary.reconstructs_input,
            "num_latents": dictionary.d_sae,
            "k": settings["k"],
            "multi_topk": False,
            "skip_connection": "W_skip" in tensors,
            "transcode": not dictionary.reconstructs_input,
            "d_in": dictionary.d_in,
            "hookpoint": module_path(written.writes[0]),
        }
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1, sort_keys=True))


def _tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = {
        "encoder.weight": state["W_enc"].T,
        "encoder.bias": state["b_enc"],
        "W_dec": state["W_dec"],
        "b_dec": state["b_dec"],
    }
    if "W_skip" in state:
        tensors["W_skip"] = state["W_skip"].T
    return {name: tensor.to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
