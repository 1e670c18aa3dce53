"""Dictionaries on disk: a folder with ``cfg.json`` and ``sae_weights.safetensors`` that SAELens loads.

Tensors are float32 and contiguous: W_enc (d_in, d_sae), b_enc (d_sae,), W_dec (d_sae, d_out), b_dec (d_out,)
and, for architectures with a threshold, ``threshold`` (d_sae,). BatchTopK encodes with one threshold, so its
file is that of a JumpReLU; ``saelens_layout`` has the rest. Data that SAELens does not know is in
``metadata.featlas``.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from catalog.durable import (
    flush_file,
    flush_folder,
    make_folder,
    replace_file,
    said_plainly,
    temporary_beside,
)
from catalog.errors import UserError
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.saelens_layout import left_out, own_tensors, saelens_config, saelens_tensors
from tasks.dictionaries.widths import Widths

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
FORMAT = 2


def save_dictionary(dictionary: Dictionary, folder: Path, metadata: Mapping[str, Any] | None = None) -> str:
    """Write both files, each atomically and flushed; ``cfg.json`` last, so that a folder with it is complete.

    Args:
        dictionary: A dictionary with its normalisation folded in.
        folder: Created if missing.
        metadata: The metadata that SAELens stores with the weights: ``model_name``, ``hook_name``, ...

    Returns:
        SHA-256 of the weights file.
    """
    with said_plainly("write the dictionary", folder):
        make_folder(folder)
        weights = folder / WEIGHTS_FILE
        temporary = temporary_beside(weights)
        save_file(saelens_tensors(dictionary), temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)
        flush_file(temporary)
        digest = _sha256(temporary)
        temporary.replace(weights)
        flush_folder(folder)
        known = {**(metadata or {}), "featlas": _own_config(dictionary, digest)}
        config = json.dumps(saelens_config(dictionary, known), indent=1, sort_keys=True)
        replace_file(folder / CONFIG_FILE, config.encode(), "dictionary")
    return digest


def load_dictionary(folder: Path) -> Dictionary:
    """Read a dictionary that ``save_dictionary`` wrote, in evaluation mode, without gradients.

    Raises:
        UserError: when a file is missing, damaged, of another origin, or does not fit its configuration.
    """
    described = _read_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist: the dictionary is incomplete, train it again")
    if _sha256(path) != described["weights_digest"]:
        raise UserError(f"{path} is damaged (its SHA-256 differs from cfg.json): restore it or train again")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    dictionary = build_dictionary(*stored_settings(folder))
    try:
        dictionary.load_state_dict(own_tensors(dictionary, tensors, described.get("left_out", {})))
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its cfg.json: {str(error).splitlines()[-1].strip()}") from error
    return dictionary.eval().requires_grad_(False)


def stored_settings(folder: Path) -> tuple[DictionaryConfig, Widths]:
    """The configuration and the widths of a dictionary that ``save_dictionary`` wrote, without its weights.

    Raises:
        UserError: when ``cfg.json`` is missing, damaged or of another origin.
    """
    described = _read_config(folder)
    return dictionary_config(described["config"]), Widths(
        tuple(described["reads"]), tuple(described["writes"])
    )


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights file of a dictionary, as its ``cfg.json`` says."""
    return str(_read_config(folder)["weights_digest"])


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        described = dict(json.loads(path.read_text())["metadata"]["featlas"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} was not written by featlas: import it with 'featlas import'") from error
    if described.get("format") != FORMAT:
        raise UserError(f"{path} has format {described.get('format')}, this version reads {FORMAT}")
    if not {"config", "reads", "writes", "weights_digest"} <= set(described):
        raise UserError(f"{path} is damaged: restore it, or train the dictionary again with --force")
    return described


def _own_config(dictionary: Dictionary, digest: str) -> dict[str, Any]:
    """The settings needed to build the dictionary again."""
    return {
        "format": FORMAT,
        "config": dictionary.config.canonical(),
        "reads": dictionary.widths.reads,
        "writes": dictionary.widths.writes,
        "weights_digest": digest,
        "left_out": left_out(dictionary),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
