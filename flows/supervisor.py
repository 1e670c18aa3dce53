"""Keep a few child processes running: start, watch, restart with growing pauses, stop all."""

import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CHECK_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
SETTLED_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass
class Service:
    """One child: its command, its log, and how often it ended."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started_at: float = field(default=0.0, init=False)
    pause_seconds: float = field(default=FIRST_PAUSE_SECONDS, init=False)
    start_at: float | None = field(default=None, init=False)
    n_starts: int = field(default=0, init=False)

    def start(self) -> None:
        """Start the child; its output is appended to the log."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.started_at, self.start_at = time.monotonic(), None
        self.n_starts += 1

    def check(self) -> None:
        """Record a death, and restart the child after its pause; restart a child that ran long at once."""
        if self.process is not None and self.process.poll() is not None:
            now = time.monotonic()
            if now - self.started_at > SETTLED_SECONDS:
                self.pause_seconds = FIRST_PAUSE_SECONDS
            print(
                f"featlas: {self.name} ended with {self.process.returncode}, "
                f"starting it again in {self.pause_seconds:.0f} s (log: {self.log})",
                file=sys.stderr,
                flush=True,
            )
            self.process, self.start_at = None, now + self.pause_seconds
            self.pause_seconds = min(2 * self.pause_seconds, LONGEST_PAUSE_SECONDS)
        if self.start_at is not None and time.monotonic() >= self.start_at:
            self.start()


class Supervisor:
    """Services that start in order and stop in the opposite order."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.services = list(services)
        self.is_stopping = False

    def start(self) -> None:
        """Start every service."""
        for service in self.services:
            service.start()

    def add(self, services: Sequence[Service]) -> None:
        """Start further services and watch them too."""
        if self.is_stopping:
            return
        for service in services:
            service.start()
            self.services.append(service)

    def check(self) -> None:
        """Check every service once."""
        for service in self.services:
            service.check()

    def watch(self, seconds: float = math.inf) -> None:
        """Check every service twice a second until told to stop, or for ``seconds``."""
        until = time.monotonic() + seconds
        while not self.is_stopping and time.monotonic() < until:
            self.check()
            time.sleep(CHECK_SECONDS)

    def stop(self) -> None:
        """Ask every child to end, the first one last; kill those that do not."""
        self.is_stopping = True
        for service in reversed(self.services):
            process = service.process
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
