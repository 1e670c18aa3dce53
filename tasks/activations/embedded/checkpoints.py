"""Checkpoints of a training run: one folder, replaced in a single rename, safetensors and JSON."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from catalog.durable import flush_file, flush_folder

RNG_KEY = "torch_rng_state"


class Position(NamedTuple):
    """Progress of a run, over all its processes."""

    step: int = 0
    seconds: float = 0.0
    """Wall-clock time spent in steps."""
    cpu_seconds: float = 0.0
    """Processor time of all threads spent in steps."""


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    optimizers: list[Optimizer],
    position: Position,
    identity: dict[str, str],
) -> None:
    """Write the state next to ``folder`` and rename it into place; a kill leaves old or new.

    Args:
        identity: The identity of the run (recipe and corpus digests); `load_checkpoint` compares it.
    """
    fresh, old = folder.with_suffix(".new"), folder.with_suffix(".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, optimizer in enumerate(optimizers):
        for slot, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"optimizer.{index}.{slot}.{key}"] = value
    tensors[RNG_KEY] = torch.get_rng_state()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh / "state.safetensors")
    state = {**position._asdict(), "identity": identity}
    (fresh / "state.json").write_text(json.dumps(state, indent=1))
    for path in fresh.iterdir():
        flush_file(path)
    flush_folder(fresh)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    flush_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, network: nn.Module, optimizers: list[Optimizer], identity: dict[str, str]
) -> Position:
    """Restore the newest complete checkpoint of the same run, or start at zero if there is none.

    A checkpoint of another recipe or corpus is ignored: the run starts from zero and replaces it.
    """
    for candidate in (folder, folder.with_suffix(".new"), folder.with_suffix(".old")):
        state_path = candidate / "state.json"
        if not state_path.exists():
            continue
        state = json.loads(state_path.read_text())
        if state["identity"] != identity:
            continue
        restore(load_file(candidate / "state.safetensors"), network, optimizers)
        return Position(state["step"], state["seconds"], state["cpu_seconds"])
    return Position()


def restore(tensors: dict[str, Tensor], network: nn.Module, optimizers: list[Optimizer]) -> None:
    """Restore a checkpoint's tensors, the random state last."""
    weights = {
        name.removeprefix("network."): tensor
        for name, tensor in tensors.items()
        if name.startswith("network.")
    }
    network.load_state_dict(weights)
    for index, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            if name.startswith(f"optimizer.{index}."):
                _, _, slot, key = name.split(".", 3)
                state.setdefault(int(slot), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors[RNG_KEY])
