"""Forecast of a training's memory before it starts, and a part of the batch that is small enough for it.

Legend: N tokens, W width of all hookpoints together, L d_sae.

Memory is measured, not guessed: a few tokens run forward and backward and their tensors are counted, once
with all latents alive and once with all of them dead, because reviving them needs memory too.
"""

import copy
import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from catalog.errors import UserError
from tasks.activations.caching.forecast import free_memory_bytes
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.training_state import TrainingState
from tasks.training.gradients import batch_gradient

SMALLEST_PART = 64
"""A batch is never split into parts of fewer tokens."""
PROBE_TOKENS = 1_024
"""Maximum number of tokens to measure; memory is linear beyond it."""
_KEPT_BY_ALLOCATOR = 64 * 2**20
"""Memory that the C library keeps of freed blocks below 32 MiB: with it, forecasts of five methods were
between 0.85 and 1.1 of the peak."""
_USABLE = 0.9
"""Share of the free memory that a new training may plan to use."""
_MEBIBYTE = 2**20


class NotEnoughMemory(UserError):
    """A training does not fit into the memory that is free."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a training needs on its device, in addition to those of the process before."""

    weights_bytes: int
    """Parameters and buffers."""
    moments_bytes: int
    """Both moments of Adam, unless they are in memory already."""
    others_bytes: int
    """Gradients and moments that trainings in the same process have not allocated yet."""
    feed_bytes: int
    """Buffer and batch of the stream, on the processor; shared by the trainings of one feed."""
    step_bytes: int = 0
    """Peak of a step: temporaries of a part of the batch, gradients, Adam's temporaries."""

    @property
    def missing_bytes(self) -> int:
        """The part that is not in memory yet once the weights are."""
        return self.moments_bytes + self.others_bytes + self.feed_bytes + self.step_bytes


def weights_bytes(dictionary: Dictionary) -> int:
    """Bytes of parameters and buffers."""
    tensors = (*dictionary.parameters(), *dictionary.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def usable_share(state: TrainingState) -> float:
    """Share of the free memory to plan with: all of it for a resumed training, to keep its parts."""
    return 1.0 if state.step else _USABLE


def refuse_impossible_width(name: str, n_latents: int, d_out: int, device: torch.device) -> None:
    """Refuse a dictionary whose decoder with its gradient and moments exceeds the free memory.

    Raises:
        NotEnoughMemory: before any tensor of that size is allocated.
    """
    need, free = 4 * 4 * n_latents * d_out, free_memory_bytes(device)
    if need > free:
        raise NotEnoughMemory(
            f"dictionary {name!r} with {n_latents} latents of width {d_out} needs more than "
            f"{_mebibytes(need)} MiB of memory on {device}, {_mebibytes(free)} MiB are free: choose a "
            "smaller expansion_factor or d_sae"
        )


class StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Within the context ``peak_bytes`` becomes the maximum that new storages held at one time.

    Unlike `MemoryMeter` it follows storages, not tensors, so what autograd keeps for the backward pass
    counts as long as it is kept. Buffers inside an operation do not count.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {leaf.untyped_storage().data_ptr() for leaf in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        self._live = {place: kept for place, kept in self._live.items() if not kept[0].expired()}  # type: ignore[no-untyped-call]
        for leaf in _tensors(result):
            storage = leaf.untyped_storage()
            if storage.data_ptr() not in given:
                self._live[storage.data_ptr()] = StorageWeakRef(storage), storage.nbytes()  # type: ignore[no-untyped-call]
        self.peak_bytes = max(self.peak_bytes, sum(n_bytes for _, n_bytes in self._live.values()))
        return result


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class StepProbe:
    """Measures the memory of one step for a number of tokens, without changing the training."""

    def __init__(
        self, dictionary: Dictionary, state: TrainingState, x_ND: Tensor, y_NE: Tensor, *, half: bool
    ) -> None:
        self._dictionary, self._state, self._half = dictionary, state, half
        self._x_ND, self._y_NE = x_ND, y_NE
        self._peaks: dict[int, int] = {}
        self._dead_matter = True

    @property
    def usable_share(self) -> float:
        """Share of the free memory to plan with."""
        return usable_share(self._state)

    @property
    def n_tokens(self) -> int:
        """Tokens available: the maximum that can be measured."""
        return len(self._x_ND)

    def peak_bytes(self, n_tokens: int) -> int:
        """The maximum memory of one forward and backward pass, including gradients."""
        if n_tokens not in self._peaks:
            cases = (False, True) if self._dead_matter else (False,)
            peaks = [self._measure(n_tokens, dead=dead) for dead in cases]
            self._dead_matter = max(peaks) > peaks[0]
            self._peaks[n_tokens] = max(peaks)
        return self._peaks[n_tokens]

    def forecast(self, n_tokens: int, n_measured: int) -> int:
        """The line through the memory of ``n_measured`` tokens and of half of them, at ``n_tokens``."""
        whole = self.peak_bytes(n_measured)
        half = self.peak_bytes(n_measured // 2) if n_measured > 1 else 0
        per_token = max(whole - half, 0) / (n_measured - n_measured // 2)
        return max(int(whole + per_token * (n_tokens - n_measured)), self._update_bytes())

    def _update_bytes(self) -> int:
        """Gradients, and Adam's temporaries for changing weights: all at once on a GPU, else by tensor."""
        sizes = [4 * parameter.numel() for parameter in self._dictionary.parameters()]
        return sum(sizes) + 2 * (sum(sizes) if self._x_ND.is_cuda else max(sizes))

    def _measure(self, n_tokens: int, *, dead: bool) -> int:
        dictionary = copy.deepcopy(self._dictionary)
        silent = self._state.dead_after_tokens if dead else 0
        state = replace(
            self._state,
            tokens_since_fired=torch.full_like(self._state.tokens_since_fired, silent),
            memory=copy.deepcopy(self._state.memory),
            generator=torch.Generator().manual_seed(0),
        )
        x_ND = self._x_ND[:n_tokens]
        y_NE = x_ND if self._y_NE is self._x_ND else self._y_NE[:n_tokens]
        with torch.random.fork_rng(devices=[]), StorageMeter() as meter:
            batch_gradient(
                dictionary, x_ND, y_NE, state, part_tokens=n_tokens, n_tokens=n_tokens, half=self._half
            )
        return int(meter.peak_bytes)


def fitting_part(
    name: str, probe: StepProbe, fixed: TrainingMemory, part_tokens: int, device: torch.device
) -> tuple[int, TrainingMemory]:
    """The largest part of a batch that fits, halved as often as needed, and the memory of the training.

    Next to other trainings nothing is split: their presence must not change results, not even by rounding.

    Args:
        name: Name of the dictionary, for messages.
        probe: Measures steps.
        fixed: Memory of the training without its step; the weights are already allocated.
        part_tokens: Requested part.
        device: Where it is trained.

    Raises:
        NotEnoughMemory: when not even the smallest part fits, with the amounts needed and free.
    """
    free = int(probe.usable_share * free_memory_bytes(device))
    if device.type == "cpu":
        fixed = replace(fixed, step_bytes=_KEPT_BY_ALLOCATOR)
    room, part = free - fixed.missing_bytes, part_tokens
    step = _step_bytes(probe, part, room)
    while step > room and part > SMALLEST_PART and fixed.others_bytes == 0:
        part = max(part // 2, SMALLEST_PART)
        step = _step_bytes(probe, part, room)
    need = replace(fixed, step_bytes=fixed.step_bytes + step)
    if step > room:
        raise NotEnoughMemory(
            f"dictionary {name!r} needs {_mebibytes(need.missing_bytes)} MiB more memory on {device} "
            f"({_mebibytes(need.moments_bytes)} for the moments of Adam, {_mebibytes(need.feed_bytes)} for "
            f"the buffer, {_mebibytes(need.step_bytes)} for a step), {_mebibytes(free)} MiB are free: lower "
            "expansion_factor or d_sae, or buffer_tokens"
        )
    return part, need


def return_freed_memory() -> None:
    """Return memory that the C library keeps to the system, if possible."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _step_bytes(probe: StepProbe, part: int, room: int) -> int:
    """Forecast for a part, from as many of its tokens as can be tried safely."""
    n_measured = min(2 * SMALLEST_PART, part, probe.n_tokens)
    wanted = min(max(part // 2, n_measured), probe.n_tokens, PROBE_TOKENS)
    while n_measured < wanted:
        n_next = min(4 * n_measured, wanted)
        if probe.forecast(n_next, n_measured) > room:
            break
        n_measured = n_next
    return probe.forecast(part, n_measured)


def _mebibytes(n_bytes: int) -> int:
    return -(-n_bytes // _MEBIBYTE)
