"""Reads untrusted files: headers are checked before memory is allocated, nothing is executed.

Safetensors and ``.npz`` are read in this process, without pickle. A pickled file (``.pt``) is refused
unless the user requests it, and then opened in a child process that can only create tensors from it.
"""

import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from catalog.errors import UserError
from tasks.common.plain_files import read_json_object
from tasks.foreign.record import LARGEST_VALUES

UNSAFE_FLAG = "--unsafe-allow-pickle"
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
CHILD_SECONDS = 600
_COMPILED, _PARALLEL = "_orig_mod.", "module."


@dataclass(frozen=True)
class Stored:
    """The content of a file: tensors by name, and plain values by name (a pickled state may have both)."""

    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any] = field(default_factory=dict)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a configuration file.

    Raises:
        UserError: when it is missing, too large or no object.
    """
    return read_json_object(path, "fetch the dictionary again")


def read_stored(path: Path, *, allow_pickle: bool = False) -> Stored:
    """Tensors of a file by its suffix, floats as float32, named as in the module that was saved.

    Prefixes of names from ``torch.compile`` and distributed training are removed.

    Raises:
        UserError: when it is missing, damaged, too large, or pickled and that was not allowed.
    """
    stored = _read(path, allow_pickle=allow_pickle)
    return Stored(_without_wrapper(path, stored.tensors), _without_wrapper(path, stored.values))


def _without_wrapper(path: Path, named: Mapping[str, Any]) -> dict[str, Any]:
    is_wrapped = all(name.startswith(_PARALLEL) for name in named)
    plain = {
        (name.removeprefix(_PARALLEL) if is_wrapped else name).replace(_COMPILED, ""): value
        for name, value in named.items()
    }
    if len(plain) < len(named):
        raise UserError(f"{path} holds tensors both with and without {_COMPILED!r} before the same name")
    return plain


def _read(path: Path, *, allow_pickle: bool) -> Stored:
    if not path.is_file():
        index = path.with_name(f"{path.name}.index.json")
        if index.is_file():
            return Stored(_as_float32(path, _read_sharded(index)))
        raise UserError(f"{path} does not exist: name the file or folder that holds the dictionary")
    if path.suffix == ".npz":
        return Stored(_as_float32(path, _read_npz(path)))
    if path.suffix in PICKLED:
        if not allow_pickle:
            raise UserError(
                f"{path} is pickled, and opening a pickled file can run code: convert it to safetensors, or "
                f"pass {UNSAFE_FLAG} if you trust its author"
            )
        return _read_pickled(path)
    return Stored(_as_float32(path, _read_safetensors(path)))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            for name in names:
                _refuse_huge(path, name, file.get_slice(name).get_shape())
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}): fetch the dictionary again") from error


def _read_sharded(index: Path) -> dict[str, Tensor]:
    """The tensors of several files that an index names; only files next to the index are opened."""
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise UserError(f"{index} lists no weights: fetch the dictionary again")
    tensors: dict[str, Tensor] = {}
    for name in sorted({str(file) for file in named.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{index} names the invalid file {name!r}: do not use this dictionary")
        if not (index.parent / name).is_file():
            raise UserError(f"{index.parent / name} is missing: fetch the dictionary again")
        tensors |= _read_safetensors(index.parent / name)
    return tensors


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(path, archive, member)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}
    except (zipfile.BadZipFile, OSError, ValueError, TypeError, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged ({error}): fetch the dictionary again") from error


def _check_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header claims another size than the archive holds, or holds objects."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{member.filename} has array format {version}")
        shape, _, dtype = read_header(file)
        if dtype.hasobject:
            raise UserError(f"{path}: {member.filename} holds pickled objects, which featlas never opens")
        _refuse_huge(path, member.filename, shape)
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} does not have the size that its header claims")


def _refuse_huge(path: Path, name: str, shape: tuple[int, ...] | list[int]) -> None:
    if math.prod(shape) > LARGEST_VALUES:
        raise UserError(f"{path}: {name} claims the shape {tuple(shape)}, more than a dictionary can have")


def _read_pickled(path: Path) -> Stored:
    """Tensors and plain values of a pickled file, made by a child process that only knows tensors."""
    with tempfile.TemporaryDirectory(prefix="featlas-unpickle-") as folder:
        command = [sys.executable, "-m", "tasks.foreign.unpickle", str(path.absolute()), folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(f"{path} could not be opened within {CHILD_SECONDS} s: do not use it") from None
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["its process was killed"])[-1][:300]
            raise UserError(f"{path} does not hold plain tensors ({reason}): do not use it")
        tensors = _read_safetensors(Path(folder) / "tensors.safetensors")
        values = read_json(Path(folder) / "values.json")
    return Stored(_as_float32(path, tensors), values)


def _as_float32(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floats as float32; whole numbers (k, group sizes) stay; anything else is refused."""
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise UserError(f"{path}: {name} holds complex numbers, which no dictionary has")
        plain[name] = tensor.float().contiguous() if tensor.is_floating_point() else tensor
    if not plain:
        raise UserError(f"{path} holds no tensors: name the file with the weights")
    return plain
