"""Leases: one live attempt per unit of work, and a token that grows with every takeover.

A lease file holds owner, token and deadline. On one machine the monotonic clock since boot decides about
deadlines, so a change of the wall clock expires nothing; between machines the wall clock decides. An owner
on this machine is dead as soon as its process is gone or the machine has restarted. A host name does not
identify a machine (containers, clusters); the machine id of the system does.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from catalog.durable import make_folder, replace_file, to_json
from catalog.errors import Fenced

logger = logging.getLogger(__name__)

FOLDER = "_ledger"
RENEWALS_PER_LEASE = 3
"""Two renewals may fail, on a slow disk, before a lease is lost."""
RECENT_SECONDS = 300.0
"""Many times a lease; a file that is older holds no live one."""
_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Lease:
    """Who works on a unit, with which token, until when; ``held`` is false once the work ended."""

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
    machine_id: str = ""
    """Empty if the system has no machine id, and in leases of featlas 0.1."""

    def is_live(self) -> bool:
        """Whether its owner may still be working."""
        if not self.held:
            return False
        if self.boot_id == boot_id():
            if self.pid_namespace == pid_namespace() and not process_lives(self.pid, self.pid_started):
                return False
            return now_monotonic() < self.deadline_monotonic
        if self.machine_id and self.machine_id == machine_id() and self.host == socket.gethostname():
            return False  # this machine restarted since
        return time.time() < self.deadline_wall

    def renewed(self, seconds: float) -> "Lease":
        """The same lease with a deadline ``seconds`` from now."""
        return replace(
            self,
            deadline_monotonic=now_monotonic() + seconds,
            deadline_wall=time.time() + seconds,
        )

    def describe_owner(self) -> str:
        """The owner for messages: process, host and since when."""
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
        machine_id=machine_id(),
    ).renewed(seconds)


class LeaseFile:
    """The lease of one fingerprint; change it only while holding ``lock``."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.path = _lease_path(root, fingerprint)
        make_folder(self.path.parent)
        self.lock = FileLock(str(self.path.with_suffix(".lock")))

    def read(self) -> Lease:
        """The current lease; a missing or damaged file counts as never leased."""
        return _read(self.path)

    def write(self, lease: Lease) -> None:
        """Replace the lease, durable when this returns."""
        replace_file(self.path, to_json(asdict(lease)), "lease")


def read_lease(root: Path, name: str) -> Lease:
    """The current lease, for readers that must not write to the catalogue."""
    return _read(_lease_path(root, name))


def recent_leases(root: Path) -> dict[str, Lease]:
    """Leases by name whose files were written in the last minutes; these include all live leases."""
    since = time.time() - RECENT_SECONDS
    recent: dict[str, Lease] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(_lease_path(root, "any").parent) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".json") and entry.stat().st_mtime >= since:
                    recent[entry.name.removesuffix(".json")] = _read(Path(entry.path))
    return recent


def live_leases(root: Path) -> list[Lease]:
    """Every lease whose owner may still be working, by its start."""
    live = [lease for lease in recent_leases(root).values() if lease.is_live()]
    return sorted(live, key=lambda lease: lease.started_at)


def _lease_path(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name}.json"


def _read(path: Path) -> Lease:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return Lease()
    if not isinstance(content, dict):
        return Lease()
    known = {one.name: type(one.default) for one in fields(Lease)}
    values: dict[str, Any] = {name: content[name] for name in known if name in content}
    is_sound = all(type(value) in (known[name], int) for name, value in values.items())
    return Lease(**values) if is_sound else Lease()


class HeldLease:
    """A lease of this process, renewed in the background until it is released or taken over."""

    def __init__(self, root: Path, name: str, lease: Lease, seconds: float) -> None:
        self.lease = lease
        self._root = root
        self._name = name
        self._seconds = seconds
        self._stop = threading.Event()
        threading.Thread(target=self._keep_alive, name="featlas-lease", daemon=True).start()

    def check(self, file: LeaseFile) -> Lease:
        """The current lease in its file, whose lock the caller holds.

        Raises:
            Fenced: when another attempt took over.
        """
        lease = file.read()
        if not self.is_ours(lease):
            raise Fenced(
                f"{self.lease.stage} of {self.lease.label} was taken over by {lease.describe_owner()}; "
                "this attempt published nothing"
            )
        return lease

    def is_ours(self, lease: Lease) -> bool:
        """Whether a lease that was read is still this one."""
        return lease.held and (lease.token, lease.owner) == (self.lease.token, self.lease.owner)

    def renew(self, patience_seconds: float = -1) -> None:
        """Extend the lease.

        Raises:
            Fenced: when another attempt took over.
            Timeout: when the lock was not free within ``patience_seconds``; the default waits without limit.
        """
        file = LeaseFile(self._root, self._name)
        with file.lock.acquire(timeout=patience_seconds):
            file.write(self.check(file).renewed(self._seconds))

    def release(self, file: LeaseFile) -> None:
        """End the lease; the caller holds the lock and knows that the lease is ours."""
        self._stop.set()
        file.write(Lease(token=self.lease.token, stage=self.lease.stage, label=self.lease.label))

    def abandon(self) -> None:
        """Stop renewing it."""
        self._stop.set()

    def _keep_alive(self) -> None:
        interval = self._seconds / RENEWALS_PER_LEASE
        while not self._stop.wait(interval):
            try:
                self.renew(interval)
            except Timeout:
                continue  # a commit of ours holds the lock; no attempt can take over meanwhile
            except Fenced:
                if not self._stop.is_set():
                    logger.warning("lost the lease of %s", self.lease.label)
                return
            except OSError:
                logger.exception("could not renew the lease of %s", self.lease.label)


def boot_id() -> str:
    """Identity of this boot of this machine; the host name if the system has none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


def machine_id() -> str:
    """Identity of this machine that a restart does not change; empty if the system has none."""
    for path in _MACHINE_IDS:
        try:
            return path.read_text().strip()
        except OSError:
            continue
    return ""


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
