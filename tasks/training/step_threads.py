"""The number of threads for a training step."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.training.run import TrainingRun

FLOPS_PER_THREAD = 0.5e9
"""FLOPs of a step's encoder per thread. Threads wait for each other at the end of each product of a step;
in short ones the waiting costs more than a second thread gains: with d_in 64 and 1,024 latents (0.27e9 with
the default batch) one thread took 26.0 s and two took 29.3 s, measured on two cores."""


def threads_of_step(flops: float, n_available: int) -> int:
    """One thread for each `FLOPS_PER_THREAD` of a step, at least one and at most the available ones."""
    return max(1, min(n_available, int(flops / FLOPS_PER_THREAD)))


def step_flops(run: "TrainingRun") -> float:
    """Floating point operations of the encoder on one part of a batch, the only dense product of a step."""
    return 2.0 * run.part_tokens * run.dictionary.d_in * run.dictionary.d_sae
