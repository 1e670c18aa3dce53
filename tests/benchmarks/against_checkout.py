"""This checkout against another one (an older commit): training step, caching, page, mining, in turns.

``python -m tests.benchmarks.against_checkout PATH [--rounds 3] [--only training caching page mining]``

Each checkout runs its own benchmark programs with its own code on the same environment, one after the other
within a round, so that a busy machine is equally busy for both. A figure is the median over rounds of
``this / other`` within a round: 1.10 says that this checkout takes 10 % more time.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.bench_training import BATCH_TOKENS, EXPANSION, WARM_UP, Worker
from tests.benchmarks.peers.environments import ROOT
from tests.benchmarks.peers.worker import Case

Figures = Mapping[str, float]
SMALL_PAGE = "b.N_FEATURES, b.N_DICTIONARIES = 20_000, 2"
CASES = [Case("topk", d_in, EXPANSION * d_in, BATCH_TOKENS, 32, 0.0, None, 2) for d_in in (384, 768)]
PAGE_ROW = re.compile(r"^\| (?P<name>[^|]+?) \| (?P<value>[\d.]+) \|$", re.MULTILINE)
TABLE_ROW = re.compile(r"^\| (?P<name>[^|]+?) \|.*\| (?P<value>[\d.,]+) \|$", re.MULTILINE)


def program(checkout: Path, code: str) -> str:
    """What a program prints that runs on the code of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def page(checkout: Path) -> Figures:
    """Milliseconds of each query of the feature page, browse and overview on a small catalogue."""
    printed = program(
        checkout, f"import tests.benchmarks.bench_catalogue_page as b; {SMALL_PAGE}; print(b.main())"
    )
    return {row["name"]: float(row["value"]) for row in PAGE_ROW.finditer(printed)}


def caching(checkout: Path) -> Figures:
    """Seconds of caching in units of a plain forward pass, by number of hookpoints."""
    printed = program(checkout, "import tests.benchmarks.bench_caching as b; print(b.main())")
    return {row["name"]: 1 / float(row["value"]) for row in TABLE_ROW.finditer(printed)}


def mining(checkout: Path) -> Figures:
    """Seconds of mining in units of forward and encode, by number of tokens."""
    printed = program(checkout, "import tests.benchmarks.bench_mining as b; print(b.main())")
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    return {f"{row[0]} tokens": 1 / float(row[4]) for row in rows if row[0][:1].isdigit()}


MEASURES: Mapping[str, Callable[[Path], Figures]] = {"caching": caching, "mining": mining, "page": page}


def training(other: Path, rounds: int) -> dict[str, list[float]]:
    """``this / other`` of whole training steps, which take turns one by one."""
    ratios: dict[str, list[float]] = {}
    for case in CASES:
        with ExitStack() as stack:
            workers = [stack.enter_context(Worker.of_checkout(root, case)) for root in (ROOT, other)]
            for worker in workers:
                for _ in range(WARM_UP):
                    worker.ask("step")
            for _ in range(3 * rounds):
                ours, theirs = (worker.ask("step")["wall"] for worker in workers)
                ratios.setdefault(f"training step, topk, width {case.d_in}", []).append(ours / theirs)
    return ratios


def compare(other: Path, rounds: int, only: list[str]) -> dict[str, list[float]]:
    """``this / other`` of every figure, one value a round."""
    ratios = training(other, rounds) if "training" in only else {}
    for name in (name for name in MEASURES if name in only):
        for _ in range(rounds):
            ours, theirs = MEASURES[name](ROOT), MEASURES[name](other)
            for figure in ours.keys() & theirs.keys():
                ratios.setdefault(f"{name}: {figure}", []).append(ours[figure] / theirs[figure])
    return ratios


def main() -> str:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=["training", *MEASURES])
    arguments = parser.parse_args()
    ratios = compare(arguments.checkout.resolve(), arguments.rounds, arguments.only)
    lines = ["| what | this / other, median | smallest | largest |", "|--|--|--|--|"]
    lines += [
        f"| {name} | {statistics.median(values):.2f} | {min(values):.2f} | {max(values):.2f} |"
        for name, values in sorted(ratios.items())
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(print(main()))
