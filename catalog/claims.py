"""A claim: the right to work on one unit and to publish its result once."""

import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from catalog.commit import CommitSizes, commit
from catalog.errors import CatalogueError, Fenced
from catalog.headway import HeadwayFile
from catalog.ids import canonical_json
from catalog.leases import HeldLease, Lease, LeaseFile
from catalog.outcomes import StageOutcome
from catalog.publish import publish_views
from catalog.rows import rows_of
from catalog.slices import SliceWrite
from catalog.version import code_version

logger = logging.getLogger(__name__)

ERROR_CHARS = 2_000


@dataclass(frozen=True)
class Request:
    """What a stage requested from the ledger."""

    stage: str
    version: int
    label: str
    config: Mapping[str, Any]
    parents: tuple[str, ...]
    run_id: str | None


class Claim:
    """One attempt at one unit of work; use it as a context manager.

    ``done`` is the outcome of an earlier commit; then there is nothing to do. ``scratch`` survives a kill,
    and
    the next attempt continues in it; the commit deletes it.
    """

    def __init__(
        self,
        root: Path,
        request: Request,
        fingerprint: str,
        *,
        lease: Lease | None,
        lease_seconds: float,
        done: StageOutcome | None,
    ) -> None:
        self.root = root
        self.request = request
        self.fingerprint = fingerprint
        self.done = done
        self.scratch = scratch_folder(root, fingerprint)
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._finished = lease is None
        self._held: HeldLease | None = None
        self._headway = HeadwayFile(self.scratch)
        if lease is not None:
            self.scratch.mkdir(parents=True, exist_ok=True)
            self._headway.remove()
            self._held = HeldLease(root, fingerprint, lease, lease_seconds)

    @property
    def token(self) -> int:
        """Fencing token; 0 if there is nothing to do."""
        return self._held.lease.token if self._held is not None else 0

    @property
    def attempt(self) -> int:
        """Number of the attempt, counted from 1; the same number as the token."""
        return self.token

    def renew(self) -> None:
        """Extend the lease.

        Raises:
            Fenced: when another attempt took the unit over.
        """
        if self._held is not None:
            self._held.renew()

    def tell(self, what: str, done: int, total: int) -> None:
        """Record how far the work is, for people who look at the run; it never fails."""
        self._headway.tell(what, done, total)

    def commit(
        self,
        slices: Sequence[SliceWrite],
        *,
        facts: Mapping[str, Any],
        folders: Mapping[str, Path] | None = None,
    ) -> StageOutcome:
        """Publish ``slices`` and ``folders`` as one catalogue version and end the claim.

        Args:
            slices: Rows, several tables and several slices per table allowed.
            facts: Small JSON values that later stages need (ids, uris).
            folders: Destination relative to the catalogue → finished folder below ``scratch``.

        Raises:
            Fenced: when another attempt took over; nothing was published.
            CatalogueError: when rows do not fit or a write fails; nothing was published.
        """
        if self._finished or self._held is None:
            raise CatalogueError(f"{self.request.stage} of {self.request.label} was already committed")
        facts_json = canonical_json(dict(facts))
        seconds = time.monotonic() - self._started
        file = LeaseFile(self.root, self.fingerprint)
        with file.lock:
            self._held.check(file)
            snapshot, sizes = commit(
                self.root,
                slices,
                fingerprint=self.fingerprint,
                folders=folders,
                own_rows=lambda sizes: [self._stage_run("committed", sizes, seconds, facts_json)],
            )
            self._finished = True
            self._held.release(file)
        shutil.rmtree(self.scratch, ignore_errors=True)
        publish_views(snapshot)
        return StageOutcome(
            self.fingerprint,
            self.request.stage,
            True,
            sizes.rows,
            sizes.n_bytes,
            seconds,
            dict(json.loads(facts_json)),
        )

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Literal[False]:
        if self._finished or self._held is None:
            return False
        self._finished = True
        try:
            self._give_up(self._held, error)
        except (CatalogueError, OSError) as second:
            if error is None:
                raise
            logger.warning("the lease of %s was not released, it will expire: %s", self.request.label, second)
        self._held.abandon()
        self._headway.remove()
        if self.scratch.is_dir() and not any(self.scratch.iterdir()):
            self.scratch.rmdir()
        return False

    def _give_up(self, held: HeldLease, error: BaseException | None) -> None:
        """Record how the attempt ended and free the lease; never replace the error that ended it."""
        file = LeaseFile(self.root, self.fingerprint)
        with file.lock:
            if held.is_ours(file.read()):
                if error is not None and not isinstance(error, Fenced):
                    self._record_failure(error)
                held.release(file)

    def _record_failure(self, error: BaseException) -> None:
        """Record how the attempt ended: failed, or cancelled if a signal or a person stopped it."""
        message = f"{type(error).__name__}: {error}"[:ERROR_CHARS]
        state = "failed" if isinstance(error, Exception) else "cancelled"
        seconds = time.monotonic() - self._started
        try:
            commit(
                self.root,
                [],
                fingerprint=self.fingerprint,
                own_rows=lambda sizes: [self._stage_run(state, sizes, seconds, "{}", message)],
            )
        except CatalogueError as second:
            logger.warning("the failure of %s could not be recorded: %s", self.request.label, second)

    def _stage_run(
        self, state: str, sizes: CommitSizes, seconds: float, facts: str, error: str | None = None
    ) -> SliceWrite:
        row = {
            "attempt": self.attempt,
            "stage": self.request.stage,
            "stage_version": self.request.version,
            "label": self.request.label,
            "run_id": self.request.run_id,
            "state": state,
            "lease_token": self.token,
            "parents": list(self.request.parents),
            "config": canonical_json(dict(self.request.config)),
            "rows": sum(sizes.rows.values()),
            "bytes": sizes.n_bytes,
            "seconds": seconds,
            "started_at": self._started_at,
            "finished_at": datetime.now(UTC),
            "facts": facts,
            "code_version": code_version(),
            "error": error,
        }
        return SliceWrite("stage_runs", self.request.label, rows_of("stage_runs", [row]))


def scratch_folder(root: Path, fingerprint: str) -> Path:
    """Working folder of a unit."""
    return root / "_scratch" / fingerprint
