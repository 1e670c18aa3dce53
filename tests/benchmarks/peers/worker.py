"""What every worker shares: one line of JSON asks for a training step, one line answers with its seconds.

A worker is a script of one file, run with the Python of the environment it measures; it needs torch and the
library in that environment alone. The first line on stdin is the case (see ``Case``); then every line
``step`` is answered with the seconds of one step, ``memory`` with the growth of the peak since before the
dictionary was built, and ``quit`` ends. Answers begin with ``MARK``: libraries print things of their own.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MARK = "answer "
N_BATCHES = 3
N_TRUE = 20  # true directions in a token


@dataclass(frozen=True)
class Case:
    """One training to be measured: the same for every library."""

    method: str
    d_in: int
    d_sae: int
    batch_tokens: int
    k: int
    dead_share: float
    """Share of the latents that count as dead in every step, for AuxK; 0 turns AuxK off."""
    active: float | None
    """Latents per token to which biases bring a ReLU-like dictionary; None leaves it as it starts."""
    n_threads: int

    @property
    def n_dead(self) -> int:
        """This many latents, from the first, count as dead."""
        return round(self.dead_share * self.d_sae)


Step = Callable[[Tensor], float]
Build = Callable[[Case, list[Tensor]], Step]


def batches(case: Case) -> list[Tensor]:
    """Tokens made of a few of ``4 d_in`` true directions and noise, of mean norm sqrt(d_in): (N, D) each."""
    random = torch.Generator().manual_seed(0)
    directions = torch.randn(4 * case.d_in, case.d_in, generator=random)
    directions /= directions.norm(dim=1, keepdim=True)
    found = []
    for _ in range(N_BATCHES):
        chosen = torch.randint(len(directions), (case.batch_tokens, N_TRUE), generator=random)
        strengths = 0.5 + torch.rand(case.batch_tokens, N_TRUE, 1, generator=random)
        tokens = (directions[chosen] * strengths).sum(dim=1)
        tokens += 0.05 * torch.randn(tokens.shape, generator=random)
        found.append(tokens * (case.d_in**0.5 / tokens.norm(dim=1).mean()))
    return found


def bias_for(case: Case, pre_acts: Tensor) -> float:
    """What to add to every pre-activation so that ``case.active`` of a token are positive."""
    assert case.active is not None
    n_above = round(case.active * len(pre_acts))
    return -float(torch.topk(pre_acts.flatten(), n_above + 1).values[-1])


def serve(distribution: str, build: Build, extra: dict[str, Callable[[Tensor], Any]] | None = None) -> None:
    """Answer on stdout until ``quit``; ``extra`` are further things to be timed, by name."""
    answers, sys.stdout = sys.stdout, sys.stderr
    case = Case(**json.loads(sys.stdin.readline()))
    torch.set_num_threads(case.n_threads)
    data = batches(case)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports what it needs the first time
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    timed: dict[str, Callable[[Tensor], Any]] = {"step": build(case, data), **(extra or {})}
    _answer(answers, {"version": f"{distribution} {version(distribution)}", "torch": torch.__version__})
    count, loss = 0, None
    for line in sys.stdin:
        word = line.strip()
        if word == "quit":
            return
        if word == "memory":
            _answer(answers, {"bytes": _status("VmHWM") - before, "loss": loss})
            continue
        batch = data[count % len(data)]
        began = (time.perf_counter(), time.process_time())
        result = timed[word](batch)
        ended = (time.perf_counter(), time.process_time())
        count += word == "step"
        loss = result if word == "step" else loss
        _answer(answers, {"wall": ended[0] - began[0], "processor": ended[1] - began[1]})


def _answer(stream: Any, message: dict[str, Any]) -> None:
    stream.write(MARK + json.dumps(message) + "\n")
    stream.flush()


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))
