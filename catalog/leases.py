"""Leases: one live attempt per unit of work, and a token that grows with every take-over.

A lease file holds owner, token and deadline. On one machine deadlines are compared on the monotonic clock
since boot, so a jump of the wall clock expires nothing; between machines the wall clock must do. An owner
on this machine whose process is gone is dead at once.
"""

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from catalog.durable import make_folder, replace_file, to_json

FOLDER = "_ledger"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Lease:
    """Who works on a unit, with which token, until when; ``held`` is false once it ended."""

    token: int = 0
    held: bool = False
    owner: str = ""
    host: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    pid_started: int = 0
    deadline_monotonic: float = 0.0
    deadline_wall: float = 0.0
    stage: str = ""
    label: str = ""
    started_at: str = ""

    def is_live(self) -> bool:
        """Whether its owner may still be working."""
        if not self.held:
            return False
        if self.boot_id == boot_id():
            if self.pid_namespace == pid_namespace() and not process_lives(self.pid, self.pid_started):
                return False
            return now_monotonic() < self.deadline_monotonic
        if self.host == socket.gethostname():
            return False  # the machine was started anew since
        return time.time() < self.deadline_wall

    def renewed(self, seconds: float) -> "Lease":
        """The same lease with a deadline ``seconds`` from now."""
        return replace(
            self,
            deadline_monotonic=now_monotonic() + seconds,
            deadline_wall=time.time() + seconds,
        )

    def describe_owner(self) -> str:
        """For messages: process, host and since when."""
        return f"process {self.pid} on {self.host} since {self.started_at}"


def new_lease(token: int, owner: str, stage: str, label: str, started_at: str, seconds: float) -> Lease:
    """A held lease of this process."""
    return Lease(
        token=token,
        held=True,
        owner=owner,
        host=socket.gethostname(),
        boot_id=boot_id(),
        pid_namespace=pid_namespace(),
        pid=os.getpid(),
        pid_started=process_start(os.getpid()) or 0,
        stage=stage,
        label=label,
        started_at=started_at,
    ).renewed(seconds)


class LeaseFile:
    """The lease of one fingerprint; change it only while holding ``lock``."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.path = root / FOLDER / f"{fingerprint}.json"
        make_folder(self.path.parent)
        self.lock = FileLock(str(self.path.with_suffix(".lock")))

    def read(self) -> Lease:
        """The lease as it stands; a file that is missing or damaged counts as never leased."""
        try:
            content: dict[str, Any] = json.loads(self.path.read_bytes())
            return Lease(**content)
        except (FileNotFoundError, ValueError, TypeError):
            return Lease()

    def write(self, lease: Lease) -> None:
        """Replace the lease, durable when this returns."""
        replace_file(self.path, to_json(asdict(lease)), "lease")


def boot_id() -> str:
    """Identity of this boot of this machine; the host name where the system tells none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


def pid_namespace() -> str:
    """Process numbers compare only within one namespace (containers have their own)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return socket.gethostname()


def now_monotonic() -> float:
    """Seconds since boot, the same for every process of this machine."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def process_start(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def process_lives(pid: int, started: int) -> bool:
    """Whether the process that had this number and start time still runs."""
    if Path("/proc/self/stat").exists():
        return process_start(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
