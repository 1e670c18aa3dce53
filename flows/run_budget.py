"""The budget of a run: once its time or disk is used up, the run only finds what is there, and ends.

Checked before each stage, so the last stage may go over it. Money is counted where language models are asked
(`tasks.autointerp.budget`).
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from flows.config_entries import BudgetConfig
from tasks.support.policies import LeftOut

BYTES_PER_GB = 1e9


class BudgetSpent(LeftOut):
    """A stage is left to the next run, because the budget of this one is used up."""


def now() -> float:
    """Seconds on a clock that never goes back."""
    return time.monotonic()


@dataclass
class RunBudget:
    """What a run may use, from the moment this is made."""

    config: BudgetConfig
    root: Path
    started: float = field(default_factory=lambda: now())
    n_bytes: int = field(init=False)
    """Size of the catalogue at the start."""

    def __post_init__(self) -> None:
        self.n_bytes = folder_bytes(self.root) if self.config.disk_gb is not None else 0

    def used_up(self) -> str | None:
        """What is used up, as the end of a sentence; None while stages may start."""
        minutes, disk_gb = self.config.minutes, self.config.disk_gb
        if minutes is not None and now() - self.started >= 60 * minutes:
            return f"{minutes:g} minutes are over"
        if disk_gb is not None:
            grown = (folder_bytes(self.root) - self.n_bytes) / BYTES_PER_GB
            if grown >= disk_gb:
                return f"the catalogue grew by {grown:.3g} GB of {disk_gb:g} GB"
        return None

    def seconds_left(self) -> float | None:
        """Seconds until its time is over; None without a limit."""
        minutes = self.config.minutes
        return None if minutes is None else max(0.0, self.started + 60 * minutes - now())


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder, each once whatever its number of names."""
    sizes: dict[tuple[int, int], int] = {}
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(f"{path}/{name}")
            except FileNotFoundError:
                continue
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())
