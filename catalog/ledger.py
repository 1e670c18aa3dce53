"""The ledger: fingerprints, claims with fencing leases, and commits that happen once.

A stage requests its unit of work. It gets either the outcome of an earlier commit or a claim. With a claim it
works in the scratch folder of the claim and commits. The catalogue (``stage_runs`` and ``slices``) records
whether a unit is done; a scheduler never does.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from catalog.claims import Claim, Request
from catalog.durable import make_folder, said_plainly
from catalog.errors import AlreadyRunning
from catalog.ids import stage_fingerprint
from catalog.leases import Lease, LeaseFile, new_lease
from catalog.outcomes import StageOutcome, last_attempt, read_outcome
from catalog.publish import publish_views
from catalog.schemas import TABLES
from catalog.slices import SliceWrite
from catalog.snapshot import newest_snapshot

POLL_SECONDS = 0.2

__all__ = ["Claim", "Ledger", "SliceWrite", "StageOutcome"]


class Ledger:
    """Claims and outcomes of one catalogue."""

    def __init__(self, root: Path, *, lease_seconds: float = 30.0, wait_seconds: float = 10.0) -> None:
        """
        Args:
            root: Folder of the catalogue; created when first written to.
            lease_seconds: Another attempt may take over a claim that is not renewed for this time.
            wait_seconds: How long ``claim`` waits for another live attempt.
        """
        self.root = root
        self.lease_seconds = lease_seconds
        self.wait_seconds = wait_seconds

    def outcome(self, fingerprint: str) -> StageOutcome | None:
        """The outcome of a finished unit, or None if it must be done (again)."""
        replaceable = {name: not spec.append_only for name, spec in TABLES.items()}
        return read_outcome(newest_snapshot(self.root), fingerprint, replaceable)

    def claim(
        self,
        stage: str,
        version: int,
        label: str,
        config: Mapping[str, Any],
        parents: Sequence[str],
        prompt_digests: Sequence[str] = (),
        run_id: str | None = None,
        force: bool = False,
    ) -> Claim:
        """The unit's earlier outcome (``claim.done``), or the right to compute it.

        Args:
            stage: Name of the stage.
            version: Version of the stage's definition.
            label: What the unit is about, in readable text.
            config: All settings that affect the result; only canonical JSON types.
            parents: Fingerprints of what the stage reads.
            prompt_digests: Digests of the prompts it sends.
            run_id: Run that claims.
            force: Compute it again even if it is done.

        Raises:
            AlreadyRunning: when another live attempt held the unit for ``wait_seconds``.
            CatalogueError: when the catalogue cannot be written.
        """
        fingerprint = stage_fingerprint(stage, version, config, parents, prompt_digests)
        request = Request(stage, version, label, dict(config), tuple(parents), run_id)
        deadline = time.monotonic() + self.wait_seconds
        with said_plainly("write to", self.root):
            make_folder(self.root)
            while True:
                patience = max(POLL_SECONDS, deadline - time.monotonic())
                claim, lease = self._try(fingerprint, request, force, patience)
                if claim is not None:
                    return claim
                if time.monotonic() >= deadline:
                    raise AlreadyRunning(
                        f"{stage} of {label} is already running ({lease.describe_owner()}); "
                        "wait for it or stop that process"
                    )
                time.sleep(POLL_SECONDS)

    def _try(
        self, fingerprint: str, request: Request, force: bool, patience: float
    ) -> tuple[Claim | None, Lease]:
        """A claim, or None and the lease of the attempt that works or commits."""
        file = LeaseFile(self.root, fingerprint)
        try:
            with file.lock.acquire(timeout=patience):
                lease = file.read()
                if lease.is_live():
                    return None, lease
                done = None if force else self.outcome(fingerprint)
                if done is None:
                    lease = self._next_lease(lease, fingerprint, request)
                    file.write(lease)
        except Timeout:
            return None, file.read()
        if done is not None:
            publish_views(newest_snapshot(self.root))
        held = lease if done is None else None
        claim = Claim(
            self.root, request, fingerprint, lease=held, lease_seconds=self.lease_seconds, done=done
        )
        return claim, lease

    def _next_lease(self, last: Lease, fingerprint: str, request: Request) -> Lease:
        token = max(last.token, last_attempt(newest_snapshot(self.root), fingerprint)) + 1
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        owner = uuid.uuid4().hex
        return new_lease(token, owner, request.stage, request.label, started_at, self.lease_seconds)
