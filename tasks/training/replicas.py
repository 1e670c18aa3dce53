"""Train one dictionary in several processes: each processes its part of every batch.

``torchrun`` starts the processes and numbers them in the environment (RANK, WORLD_SIZE). All of them read
the same buffers and take their own tokens, hold the same weights and take the same steps. Gradients and
statistics are summed over the processes, so the result is that of one process up to rounding.

Legend: N tokens of a batch.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from catalog.errors import UserError
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.training_state import TrainingState, TrainingStep

_PATIENCE = timedelta(days=1)
"""A limit for work that one process does alone; the supervisor finds a process that hangs."""


class Replicas:
    """The processes that train a dictionary together; this base class is a single process."""

    rank = 0
    n_processes = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.rank == 0

    def part(self, n_rows: int) -> slice:
        """The rows of a batch that belong to this process."""
        return slice(n_rows)

    def begin(self, dictionary: Dictionary, state: TrainingState) -> None:
        """Make all processes start from the weights of the first."""

    def combine(self, step: TrainingStep, parameters: Iterable[nn.Parameter]) -> TrainingStep:
        """Sum gradients and statistics, each already weighted by its share of the batch."""
        return step

    def join(self, dictionary: Dictionary, state: TrainingState) -> None:
        """Before the rules of a method act on a step: combine what each process saw of it."""

    def settle(self, dictionary: Dictionary, state: TrainingState) -> None:
        """After a step: make equal what every process has learnt from its own part."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag

    def first(self, flag: bool) -> bool:
        """The value of the flag in the first process."""
        return flag


class ProcessGroup(Replicas):
    """Processes that torch.distributed connects."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.n_processes, self.device = dist.get_rank(), dist.get_world_size(), device

    def part(self, n_rows: int) -> slice:
        return slice(*(n_rows * rank // self.n_processes for rank in (self.rank, self.rank + 1)))

    def begin(self, dictionary: Dictionary, state: TrainingState) -> None:
        for tensor in (*dictionary.parameters(), *dictionary.buffers()):
            self._in_place(tensor.data, "copy")

    def combine(self, step: TrainingStep, parameters: Iterable[nn.Parameter]) -> TrainingStep:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        names = sorted(step.parts)
        scalars = [step.loss, step.sse, step.l0, *(step.parts[name] for name in names)]
        values = torch.stack([value.detach().to(self.device, torch.float64) for value in scalars])
        dist.all_reduce(values)
        seen = torch.cat(
            [step.fired, torch.tensor([p.grad is not None for p in trained], device=step.fired.device)]
        ).to(torch.uint8)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        has_gradient = seen[len(step.fired) :].tolist()
        for parameter, wanted in zip(trained, has_gradient, strict=True):
            if wanted:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self._in_place(parameter.grad, "sum")
        loss, sse, l0, *parts = values.to(step.loss.dtype)
        fired_L = seen[: len(step.fired)].bool()
        return TrainingStep(loss, sse, l0, fired_L, dict(zip(names, parts, strict=True)))

    def join(self, dictionary: Dictionary, state: TrainingState) -> None:
        for name, how in sorted(dictionary.gradient.joined.items()):
            self._in_place(state.memory[name], how)

    def settle(self, dictionary: Dictionary, state: TrainingState) -> None:
        # Parameters are equal already: their gradients are, and the method's rules use joined statistics.
        learnt = {**dict(dictionary.named_buffers()), **state.memory}
        for _, tensor in sorted(learnt.items()):
            self._in_place(tensor, "mean" if tensor.is_floating_point() else "copy")

    def any(self, flag: bool) -> bool:
        value = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def first(self, flag: bool) -> bool:
        value = torch.tensor(int(flag), device=self.device)
        dist.broadcast(value, src=0)
        return bool(value.item())

    def _in_place(self, tensor: Tensor, how: str) -> None:
        """Sum, max, mean or copy of the first, over processes; the memory layout of the tensor stays."""
        dense = tensor.T if tensor.ndim == 2 and tensor.T.is_contiguous() else tensor
        sent = dense.contiguous()
        if how == "copy":
            dist.broadcast(sent, src=0)
        else:
            dist.all_reduce(sent, op=dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)
            if how == "mean":
                sent /= self.n_processes
        if sent.data_ptr() != dense.data_ptr():
            dense.copy_(sent)


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process if ``torchrun`` started one process per GPU.

    Raises:
        UserError: when there are more processes than GPUs.
    """
    rank = os.environ.get("LOCAL_RANK")
    if str(device) != "cuda" or rank is None:
        return device
    if int(rank) >= torch.cuda.device_count():
        raise UserError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes were asked for, this machine has "
            f"{torch.cuda.device_count()} cards: lower training.n_processes"
        )
    return torch.device("cuda", int(rank))


@contextmanager
def replicas(device: torch.device) -> Iterator[Replicas]:
    """The processes that ``torchrun`` started, connected; otherwise a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Replicas()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield ProcessGroup(device)
    finally:
        dist.destroy_process_group()
