"""The training step against SAELens, sparsify and dictionary_learning, each in an environment of its own.

All learn the same tokens with the same sizes and Adam, fed from memory. The workers take turns, one step
each, so that a busy machine is equally busy for all; what counts are ratios of medians.

``python -m tests.benchmarks.bench_training --methods topk --widths 384 --repeats 9 --threads 2``
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.benchmarks.peers.environments import FOLDER, PEERS, ROOT, make
from tests.benchmarks.peers.worker import MARK, Case

BATCH_TOKENS, K, EXPANSION, DEAD_SHARE = 4096, 32, 16, 1 / 8
WARM_UP, REPEATS = 3, 9
OURS = "featlas"
CLOCKS = ("wall", "processor")
METHODS = ("topk", "batch_topk", "relu_l1", "jumprelu")
KEEPS_K = ("topk", "batch_topk")
NARROW, ACTIVE = 384, 64.0


class Worker:
    """A process that makes one training step when asked."""

    def __init__(self, name: str, python: Path, script: str, case: Case, root: Path = ROOT) -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(case.n_threads)}
        if name == OURS:
            environment["PYTHONPATH"] = str(root)
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(root / FOLDER.relative_to(ROOT) / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._versions = self.ask(json.dumps(asdict(case)))

    @classmethod
    def of_checkout(cls, root: Path, case: Case) -> Self:
        """A worker of featlas on the code of a checkout."""
        return cls(OURS, Path(sys.executable), "featlas_worker.py", case, root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None and self._process.stdin is not None:
            self._process.stdin.write("quit\n")
            self._process.stdin.close()
        self._process.wait(timeout=60)

    def ask(self, line: str) -> dict[str, Any]:
        """Send a line, wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        for answer in self._process.stdout:
            if answer.startswith(MARK):
                return dict(json.loads(answer.removeprefix(MARK)))
        raise RuntimeError(f"the worker of {self.name} ended: run it by hand to see why")


@dataclass
class Timings:
    """Seconds of each repeat, by what was timed, and bytes of the peak, by worker."""

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> tuple[float, float, float]:
        """Median, smallest and largest of ``name / other`` within one round."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        values = sorted(a / b for a, b in pairs)
        return statistics.median(values), values[0], values[-1]

    def best_peer(self) -> str:
        """The fastest of the others."""
        return min((peer.name for peer in PEERS if peer.name in self.seconds), key=self.median)


def cases(methods: tuple[str, ...], widths: tuple[int, ...], n_threads: int) -> list[Case]:
    """What is measured: AuxK off and on where there is one, else as it starts and at 64 active latents."""
    return [
        _case(method, d_in, n_threads, second)
        for d_in in widths
        for method in methods
        for second in (False, True)
        if d_in <= NARROW or method in KEEPS_K
    ]


def _case(method: str, d_in: int, n_threads: int, second: bool) -> Case:
    kept = method in KEEPS_K
    dead_share = DEAD_SHARE if second and kept else 0.0
    active = ACTIVE if second and not kept else None
    return Case(method, d_in, EXPANSION * d_in, BATCH_TOKENS, K, dead_share, active, n_threads)


def measure(case: Case, repeats: int = REPEATS, clock: str = CLOCKS[0]) -> Timings:
    """Time every library on one case, in turns."""
    timings = Timings(case)
    with ExitStack() as stack:
        ours = stack.enter_context(Worker(OURS, Path(sys.executable), "featlas_worker.py", case))
        peers = [peer for peer in PEERS if case.method in peer.methods]
        others = [stack.enter_context(Worker(p.name, p.python, p.worker, case)) for p in peers]
        for worker in (ours, *others):
            for _ in range(WARM_UP):
                worker.ask("step")
            timings.peak_bytes[worker.name] = worker.ask("memory")["bytes"]
        for repeat in range(1 + repeats):
            asked = [(ours, "matmul"), (ours, "product"), *((worker, "step") for worker in (ours, *others))]
            for worker, word in asked:
                seconds = worker.ask(word)[clock]
                if repeat > 0:
                    name = worker.name if word == "step" else word
                    timings.seconds.setdefault(name, []).append(seconds)
    return timings


def row(timings: Timings) -> str:
    """One line of the table."""
    case = timings.case
    if case.n_dead:
        state = "AuxK, 1/8 dead"
    elif case.active:
        state = f"{case.active:g} active"
    else:
        state = "no AuxK" if case.method in KEEPS_K else "at the start"
    names = [OURS, *(peer.name for peer in PEERS)]
    milliseconds = [f"{1e3 * timings.median(n):.0f}" if n in timings.seconds else "–" for n in names]
    peaks = [f"{timings.peak_bytes[n] / 1e6:.0f}" if n in timings.peak_bytes else "–" for n in names]
    ratio, low, high = timings.ratio(timings.best_peer(), OURS)
    of_encoder = [f"{timings.ratio(OURS, name)[0]:.2f}" for name in ("matmul", "product")]
    cells = [f"{case.method}, {case.d_in}, {state}", *milliseconds, f"**{ratio:.1f}** ({low:.1f}–{high:.1f})"]
    return f"| {' | '.join([*cells, *of_encoder, ' / '.join(peaks)])} |"


def main(
    methods: tuple[str, ...] = METHODS,
    widths: tuple[int, ...] = (384, 768),
    repeats: int = REPEATS,
    n_threads: int | None = None,
    clock: str = CLOCKS[0],
) -> str:
    """Make the environments, measure every case, return the table.

    Args:
        methods: Which methods.
        widths: Which d_in; above 384 only the methods that keep k latents.
        repeats: Rounds that count.
        n_threads: Of each library; left out, as many as there are cores.
        clock: ``wall``, or ``processor`` where others use the machine meanwhile: with one thread that is what
            the wall clock would show on an idle one.
    """
    for peer in PEERS:
        make(peer)
    n_threads = n_threads or os.cpu_count() or 1
    lines = [
        f"Batch {BATCH_TOKENS}, k {K}, d_sae {EXPANSION} x d_in, {n_threads} threads, {clock} clock, medians "
        f"of {repeats} steps in turns; load average {os.getloadavg()[0]:.1f} before the run. Milliseconds; "
        "range: smallest and largest ratio of one round; peaks: MB of growth over the imported library, in "
        "the order of the columns.",
        "",
        "| method, d_in, state | featlas | sae-lens | sparsify | dictionary_learning | best peer / featlas "
        "(range) | featlas / encoder by torch | featlas / encoder as featlas multiplies | peaks |",
        "|--|--|--|--|--|--|--|--|--|",
    ]
    for case in cases(methods, widths, n_threads):
        lines.append(row(measure(case, repeats, clock)))
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--widths", nargs="+", type=int, default=(384, 768))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0])
    chosen = parser.parse_args()
    print(main(tuple(chosen.methods), tuple(chosen.widths), chosen.repeats, chosen.threads, chosen.clock))
