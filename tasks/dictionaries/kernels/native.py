"""The compiled kernels of ``kernels.cpp``, if they were built; everything also works without them.

``setup`` compiles them if it finds a C++ compiler with OpenMP, and continues without them otherwise. They
support contiguous float32 tensors on the CPU; everything else uses plain torch. The environment variable
``FEATLAS_KERNELS=torch`` disables them.
"""

import ctypes
import logging
import os
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VERSION = 2
"""Must equal ``featlas_kernels_version()``: a library from an older build is not used."""

logger = logging.getLogger(__name__)

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "top_of_rows": (_POINTER, _INT, _INT, _INT, _POINTER, _POINTER, _INT),
    "smallest_kept": (_POINTER, _INT, _INT, _INT, _POINTER, _INT),
    "count_above": (_POINTER, _INT, _INT, _FLOAT, _POINTER, _INT),
    "copy_above": (_POINTER, _INT, _INT, _FLOAT, _POINTER, _POINTER, _POINTER, _INT),
    "order_by_latent": (_POINTER, _INT, _INT, _POINTER, _POINTER),
    "sum_runs": (_POINTER, _INT, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _POINTER, _INT),
    "direction_gradients": (*[_POINTER] * 2, _INT, *[_POINTER] * 4, _INT, _POINTER, _POINTER, _INT),
}


class Kernels:
    """The functions of the library, called with tensors; see ``kernels.cpp`` for what each one does."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.featlas_kernels_version.restype = ctypes.c_int64
        found = self._library.featlas_kernels_version()
        if found != VERSION:
            raise OSError(f"{path.name} holds version {found} of the kernels, not {VERSION}")
        self._functions = {name: self._function(name, types) for name, types in _ARGUMENTS.items()}

    def call(self, name: str, *arguments: Tensor | int | float | None) -> None:
        """Call a kernel; tensors are passed as pointers and must be contiguous."""
        values = []
        for argument in arguments:
            if isinstance(argument, Tensor):
                if not argument.is_contiguous():
                    raise ValueError(
                        f"kernel {name}: a tensor of shape {tuple(argument.shape)} is not contiguous"
                    )
                values.append(argument.data_ptr())
            else:
                values.append(argument)  # type: ignore[arg-type]
        self._functions[name](*values)

    def _function(self, name: str, types: tuple[Any, ...]) -> Any:
        function = getattr(self._library, f"featlas_{name}")
        function.argtypes, function.restype = types, None
        return function


def kernels_for(*tensors: Tensor) -> Kernels | None:
    """The kernels if all these tensors are float32 on the CPU, else None: use torch."""
    if not all(t.device.type == "cpu" and t.dtype is torch.float32 for t in tensors):
        return None
    return _load()[0]


def describe() -> tuple[bool, str]:
    """Whether compiled kernels are used, and which, or why not."""
    kernels, detail = _load()
    return kernels is not None, detail


@cache
def _load() -> tuple[Kernels | None, str]:
    if os.environ.get("FEATLAS_KERNELS") == "torch":
        return None, "left out: FEATLAS_KERNELS=torch"
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        path = folder / f"_native{suffix}"
        if path.exists():
            try:
                return Kernels(path), path.name
            except (OSError, AttributeError) as error:
                logger.warning("the compiled kernels cannot be used, training is slower: %s", error)
                return None, f"cannot be used: {error}"
    return None, "not built: install a C++ compiler and install featlas again"
