"""LoRA adapters in the PEFT layout: read, checked against their base model, merged into its weights.

A folder holds ``adapter_config.json`` and ``adapter_model.safetensors``. Merging adds ``scale * B A`` to each
weight that the adapter names (Hu et al. 2021, arXiv 2106.09685), with ``scale = alpha / r``, or
``alpha / sqrt(r)`` where the adapter is rank-stabilised (arXiv 2312.03732). Shapes: A (r, in), B (out, r).
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from catalog.errors import UserError
from tasks.activations.models.files import tensor_shapes
from tasks.common.paths import is_folder, user_path
from tasks.common.plain_files import read_json_object

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_LEFT_OUT = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication", "lora_bias")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter whose files agree with each other."""

    folder: Path
    scale: float
    is_transposed: bool
    """Whether the base stores weights as (in, out), as GPT-2 does."""
    shapes: Mapping[str, tuple[int, int]]
    """(out, in) of the change of each weight, by the name of its module."""

    def digest(self) -> str:
        """SHA-256 over the names and contents of both files."""
        total = hashlib.sha256()
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            total.update(
                f"{name}\t{hashlib.sha256((self.folder / name).read_bytes()).hexdigest()}\n".encode()
            )
        return total.hexdigest()


def read_adapter(path: str) -> Adapter:
    """Read the configuration and the headers of an adapter; no weights are loaded.

    Raises:
        UserError: when a file is missing or damaged, and for a kind of adapter that is no plain LoRA.
    """
    folder = user_path(path)
    if not is_folder(folder):
        raise UserError(f"adapter folder {folder} does not exist: check 'adapter'")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}: save the adapter with PEFT, as safetensors")
    config = read_json_object(folder / CONFIG_FILE, "save the adapter again")
    where, rank = folder / CONFIG_FILE, config.get("r", 0)
    if config.get("peft_type") != "LORA":
        raise UserError(f"{where} is of the kind {config.get('peft_type')!r}: featlas merges LORA adapters")
    refused = next((name for name in _LEFT_OUT if config.get(name)), None)
    if refused is not None:
        raise UserError(f"{where} uses {refused}, which featlas cannot merge: merge it with PEFT and save")
    alpha = config.get("lora_alpha", math.nan)
    is_usable = type(rank) is int and rank > 0 and isinstance(alpha, int | float) and math.isfinite(alpha)
    if not is_usable:
        raise UserError(f"{where} has no usable r and lora_alpha: save the adapter again")
    scale = float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
    shapes = _change_shapes(folder / WEIGHTS_FILE, rank)
    return Adapter(folder, scale, bool(config.get("fan_in_fan_out")), shapes)


def _change_shapes(path: Path, rank: int) -> dict[str, tuple[int, int]]:
    stored = tensor_shapes(path)
    modules = {name.removeprefix(_PREFIX).removesuffix(_DOWN) for name in stored if name.endswith(_DOWN)}
    expected = {f"{_PREFIX}{module}{part}" for module in modules for part in (_DOWN, _UP)}
    if not modules or expected != set(stored):
        odd = sorted(expected ^ set(stored))
        raise UserError(f"{path} does not hold pairs of lora_A and lora_B alone: {', '.join(odd[:1])}")
    shapes: dict[str, tuple[int, int]] = {}
    for module in modules:
        down, up = stored[f"{_PREFIX}{module}{_DOWN}"], stored[f"{_PREFIX}{module}{_UP}"]
        if len(down) != 2 or len(up) != 2 or down[0] != rank or up[1] != rank:
            raise UserError(f"{path}: {module} has the shapes {down} and {up}, its rank is {rank}")
        shapes[module] = (up[0], down[1])
    return shapes


def check_adapter(adapter: Adapter, weights: Mapping[str, tuple[int, ...]], model_id: str) -> None:
    """Refuse an adapter that was made for another model.

    Args:
        adapter: What is to be merged.
        weights: Shapes of the stored weights of the base model, by name.
        model_id: For the message.

    Raises:
        UserError: naming the first module that the base lacks or has in another size.
    """
    for module, change in sorted(adapter.shapes.items()):
        found = next((shape for name, shape in weights.items() if _is_weight_of(name, module)), None)
        wanted = change[::-1] if adapter.is_transposed else change
        if found != wanted:
            has = "is not there" if found is None else f"has the shape {found}, not {wanted}"
            raise UserError(
                f"model {model_id!r}: the adapter in {adapter.folder} belongs to another base model: "
                f"{module} {has}"
            )


def _is_weight_of(name: str, module: str) -> bool:
    """Whether a stored weight belongs to a module; base checkpoints may leave out the first part."""
    weight = f"{module}.weight"
    return name == weight or weight.endswith(f".{name}")


@torch.no_grad()
def merge_adapter(model: nn.Module, adapter: Adapter) -> None:
    """Add ``scale * B A`` to each weight that the adapter names; products are float32.

    Raises:
        UserError: when the model lacks a module or has it in another size.
    """
    stored = load_file(adapter.folder / WEIGHTS_FILE)
    for module in sorted(adapter.shapes):
        try:
            weight = model.get_submodule(module).weight
        except AttributeError:
            raise UserError(
                f"the adapter in {adapter.folder} belongs to another base model: {module} is not there"
            ) from None
        assert isinstance(weight, Tensor)
        change = stored[f"{_PREFIX}{module}{_UP}"].float() @ stored[f"{_PREFIX}{module}{_DOWN}"].float()
        change = change.T if adapter.is_transposed else change
        weight.copy_((weight.float() + adapter.scale * change.to(weight.device)).to(weight.dtype))


def adapter_facts(adapter: Adapter) -> dict[str, Any]:
    """What tells one adapter from another in a fingerprint."""
    return {"method": "lora", "digest": adapter.digest()}
