"""What may be spent per endpoint and UTC day, counted in a file that all processes share.

Before a request the most it can cost is reserved, afterwards the reservation becomes what it did cost,
so that the sum never passes the limit. A killed process leaves its reservation: on the safe side.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from tasks.autointerp.chat import Stopped
from tasks.autointerp.endpoint import EndpointProfile


@dataclass(frozen=True, slots=True)
class Spend:
    """Money and tokens."""

    usd: float = 0.0
    tokens: int = 0


class Budget:
    """The day's account of one endpoint; without limits nothing is counted."""

    def __init__(self, folder: Path, profile: EndpointProfile) -> None:
        self.profile = profile
        self.folder = folder
        self.limited = profile.budget_usd is not None or profile.budget_tokens is not None

    def reserve(self, most: Spend) -> None:
        """Set aside the most a request can cost.

        Raises:
            Stopped: when that would pass a limit.
        """
        if self.limited:
            self._add(most, enforce=True)

    def settle(self, reserved: Spend, actual: Spend) -> None:
        """Replace a reservation by what was really spent."""
        if self.limited:
            change = Spend(actual.usd - reserved.usd, actual.tokens - reserved.tokens)
            self._add(change, enforce=False)

    def spent(self) -> Spend:
        """What the day's account holds, reservations included."""
        path = self._path()
        if not path.exists():
            return Spend()
        plain = json.loads(path.read_text("utf-8"))
        return Spend(float(plain["usd"]), int(plain["tokens"]))

    def _add(self, change: Spend, *, enforce: bool) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path()
        with FileLock(f"{path}.lock"):
            before = self.spent()
            after = Spend(before.usd + change.usd, before.tokens + change.tokens)
            if enforce:
                self._refuse_above(after)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps({"usd": after.usd, "tokens": after.tokens}), "utf-8")
            temporary.replace(path)

    def _refuse_above(self, spend: Spend) -> None:
        usd, tokens = self.profile.budget_usd, self.profile.budget_tokens
        over_usd = usd is not None and spend.usd > usd
        if over_usd or (tokens is not None and spend.tokens > tokens):
            limit = f"{usd} USD" if over_usd else f"{tokens} tokens"
            raise Stopped(
                f"the day's budget of endpoint {self.profile.name!r} ({limit}) is used up: "
                "run again tomorrow or raise the budget in its profile"
            )

    def _path(self) -> Path:
        return self.folder / f"{self.profile.name}-{datetime.now(UTC):%Y-%m-%d}.json"
