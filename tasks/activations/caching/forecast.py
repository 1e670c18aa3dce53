"""Forecast of the disk and memory that caching needs, before it starts."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from catalog.errors import UserError
from tasks.activations.caching.memory_meter import MemoryMeter
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture
from tasks.activations.reading.shard_files import ShardFormat
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PackedTokens

N_TOKEN_ARRAYS = 5
"""int32 arrays of packed tokens, shared by all hookpoints; each has its own ``valid`` (one byte)."""
FIXED_BYTES = 44 * 2**20
"""Tokenisation, threads, Python objects and buffers of the matrix library."""
FRAGMENTED_SHARE = 0.10
"""Holes between tensors, as a share of the tensors' size: measured under the steady allocator (see
`tasks.common.allocator`) on models of six layouts; without it holes take up to as much as the tensors."""
_CGROUP = Path("/sys/fs/cgroup")
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that caching will need."""

    disk_bytes: int
    """In the working folder, all hookpoints and token files."""
    weights_bytes: int
    """In the memory of the model's device: the weights."""
    working_bytes: int
    """Also there: the working set of a forward pass and of data waiting for the disk."""


def forecast(
    language_model: LanguageModel,
    packed: PackedTokens,
    widths: Mapping[str, int],
    dtypes: Mapping[str, ShardFormat],
    batch_sequences: int,
) -> Forecast:
    """Disk and memory for caching ``packed``; ``widths`` and ``dtypes`` are by hookpoint.

    Memory is measured, not guessed: it runs one sequence and counts the tensors.
    """
    row_bytes = [width * np.dtype(dtypes[name]).itemsize for name, width in widths.items()]
    n_places = packed.n_sequences * packed.context_length
    disk = n_places * (sum(row_bytes) + N_TOKEN_ARRAYS * 4 + len(widths))
    weights = sum(p.numel() * p.element_size() for p in language_model.model.parameters())
    with MemoryMeter() as meter:
        capture(language_model, list(widths), model_inputs(language_model, packed, slice(0, 1)))
    n_batch = min(batch_sequences, packed.n_sequences)
    waiting = packed.context_length * (sum(row_bytes) if len(widths) > 1 else 2 * row_bytes[0])
    tensors = n_batch * (meter.peak_bytes + waiting)
    return Forecast(disk, weights, round((1 + FRAGMENTED_SHARE) * tensors) + FIXED_BYTES)


def waiting_arrays(n_hookpoints: int) -> int:
    """Arrays of stored values in memory at one time: a batch of every hookpoint, two of a single one."""
    return max(2, n_hookpoints)


def refuse_above_free(
    need: Forecast, language_model: LanguageModel, folder: Path, n_bytes_there: int = 0
) -> None:
    """Refuse work that will not fit.

    Args:
        need: The forecast.
        language_model: The loaded model; its weights are in memory already.
        folder: Where the shards will be written.
        n_bytes_there: Bytes of the forecast that are already written.

    Raises:
        UserError: when disk or memory is short, with the amounts needed and free.
    """
    disk_needed, disk_free = need.disk_bytes - n_bytes_there, shutil.disk_usage(folder).free
    if disk_needed > disk_free:
        raise UserError(
            f"caching needs {_mebibytes(disk_needed)} MiB in {folder}, {_mebibytes(disk_free)} MiB are "
            "free: lower activations.n_tokens or free some space"
        )
    memory_free = free_memory_bytes(language_model.device)
    if need.working_bytes > memory_free:
        raise UserError(
            f"caching needs {_mebibytes(need.working_bytes)} MiB of memory on {language_model.device}, "
            f"{_mebibytes(memory_free)} MiB are free: lower activations.batch_sequences or context_length"
        )


def free_memory_bytes(device: torch.device) -> int:
    """Memory of a device that is available without swapping, within the process' control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    limit = _CGROUP / "memory.max"
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        used = int((_CGROUP / "memory.current").read_text())
        rows = (line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        reclaimable = next((int(value) for name, value in rows if name == "inactive_file"), 0)
        available = min(available, int(text) - used + reclaimable)
    return available


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _mebibytes(n_bytes: int) -> int:
    return -(-n_bytes // MEBIBYTE)
