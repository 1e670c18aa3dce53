"""Child process: a pickled state of tensors, rewritten as safetensors and JSON.

``python -m tasks.foreign.unpickle SOURCE FOLDER`` writes ``tensors.safetensors`` and
``values.json`` (plain values, nested names joined by dots) to FOLDER. It is the only file of featlas that
unpickles: with ``weights_only`` only tensors and plain containers can result, and limits on memory, time and
writing apply in case that is not enough.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

MEMORY_PER_BYTE = 8
SPARE_BYTES = 2**31
CPU_SECONDS = 600


def limit(n_bytes: int) -> None:
    """Memory in proportion to the file, ten minutes of CPU, no file larger than that memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + MEMORY_PER_BYTE * n_bytes + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    written = MEMORY_PER_BYTE * n_bytes + 2**20
    resource.setrlimit(resource.RLIMIT_FSIZE, (written, written))


def flatten(value: Any, name: str, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Sort the leaves of nested containers into tensors and plain values; other objects are left out."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().clone().contiguous()
    elif isinstance(value, dict):
        for key, item in value.items():
            flatten(item, f"{name}.{key}" if name else str(key), tensors, values)
    elif isinstance(value, bool | int | float | str) or value is None:
        values[name] = value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            flatten(item, f"{name}.{index}" if name else str(index), tensors, values)


def main(source: Path, folder: Path) -> None:
    """Convert one file."""
    limit(source.stat().st_size)
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    flatten(torch.load(source, map_location="cpu", weights_only=True), "", tensors, values)
    save_file(tensors, folder / "tensors.safetensors")
    (folder / "values.json").write_text(json.dumps(values))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
