"""Checkpoints of a training: folders that are complete or absent, and verified when read.

``checkpoints/step-000000500/`` holds ``weights.safetensors``, ``optimiser.safetensors``, ``state.json``
and ``sha256.json``; ``LATEST`` names the newest. A folder is written under a temporary name, flushed to disk
and renamed. Two are kept; if one is damaged, the training continues from the one before.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from catalog.durable import (
    TEMPORARY_PREFIX,
    flush_file,
    flush_folder,
    make_folder,
    replace_file,
    said_plainly,
)
from catalog.faults import fault_point

logger = logging.getLogger(__name__)

_KEEP = 2
_HASHES = "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """All state that a training needs to continue as if it had never stopped."""

    step: int
    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write ``folder/step-N``; the name becomes visible only when the folder is complete and flushed."""
    target = folder / f"step-{checkpoint.step:09d}"
    temporary = folder / f"{TEMPORARY_PREFIX}{target.name}"
    with said_plainly("write the checkpoint", target):
        make_folder(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        _save_tensors(temporary / "weights.safetensors", checkpoint.weights)
        _save_tensors(temporary / "optimiser.safetensors", checkpoint.optimiser)
        (temporary / "state.json").write_text(json.dumps(checkpoint.state, allow_nan=False))
        hashes = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / _HASHES).write_text(json.dumps(hashes))
        fault_point("checkpoint.write")
        for path in temporary.iterdir():
            flush_file(path)
        flush_folder(temporary)
        fault_point("checkpoint.rename")
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        flush_folder(folder)
        fault_point("checkpoint.latest")
        replace_file(folder / "LATEST", target.name.encode(), "checkpoint.pointer")
        _remove_old(folder, target)
    return target


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint with correct hashes, or None."""
    for path in _candidates(folder):
        if _is_intact(path):
            state = json.loads((path / "state.json").read_text())
            weights, optimiser = (
                load_file(path / f"{name}.safetensors") for name in ("weights", "optimiser")
            )
            return Checkpoint(int(path.name.removeprefix("step-")), weights, optimiser, state)
        logger.warning("checkpoint %s is damaged; falling back to the one before", path)
    return None


def _candidates(folder: Path) -> list[Path]:
    """Checkpoints, the one that LATEST names first, then newest first."""
    if not folder.is_dir():
        return []
    found = sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True)
    pointer = folder / "LATEST"
    latest = pointer.read_text().strip() if pointer.is_file() else ""
    return sorted(found, key=lambda path: path.name != latest)


def _is_intact(path: Path) -> bool:
    try:
        hashes: Mapping[str, str] = json.loads((path / _HASHES).read_text())
        return len(hashes) == 3 and all(_sha256(path / name) == value for name, value in hashes.items())
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return False


def _remove_old(folder: Path, newest: Path) -> None:
    """Keep the newest and the one before it; later ones belong to a history that was found damaged."""
    others = sorted(path for path in folder.glob("step-*") if path != newest)
    before = [path for path in others if path.name < newest.name]
    keep = before[-(_KEEP - 1) :]
    for path in others:
        if path not in keep:
            shutil.rmtree(path)
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    fault_point("checkpoint.tensors")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
