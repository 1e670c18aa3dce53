"""Measures the memory of tensors while code runs, counted operation by operation."""

import weakref
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class MemoryMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Within the context ``peak_bytes`` becomes the maximum that new tensors held at one time.

    A storage counts once however many views share it. Older storage does not count, nor do buffers inside an
    operation. Works on every device.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._live_bytes = 0
        self._n_tensors: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf, is_new=_storage(leaf) not in given)
        return result

    def _count(self, tensor: Tensor, is_new: bool) -> None:
        place = _storage(tensor)
        n_tensors = self._n_tensors.get(place, 0)
        if not is_new and n_tensors == 0:
            return  # a view of something older than the meter
        n_bytes = tensor.untyped_storage().nbytes()
        if n_tensors == 0:
            self._live_bytes += n_bytes
            self.peak_bytes = max(self.peak_bytes, self._live_bytes)
        self._n_tensors[place] = n_tensors + 1
        weakref.finalize(tensor, self._forget, place, n_bytes)

    def _forget(self, place: int, n_bytes: int) -> None:
        self._n_tensors[place] -= 1
        if self._n_tensors[place] == 0:
            self._live_bytes -= n_bytes


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
