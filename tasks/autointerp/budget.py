"""Budgets of an endpoint and of an explainer or scorer per UTC day, and of a run, in files that all share.

Before a request its maximum cost is reserved; afterwards the actual cost replaces the reservation, so the sum
never exceeds the limit. A killed process leaves its reservation, which errs on the safe side.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from catalog.ids import digest
from tasks.autointerp.chat import Spent, Stopped
from tasks.autointerp.endpoint import EndpointProfile

SPENT_BY_RUN = "the budget of this run"


@dataclass(frozen=True, slots=True)
class Spend:
    """Money and tokens."""

    usd: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunLimit:
    """What all endpoints together may cost in one run."""

    run_id: str
    usd: float

    @property
    def spent(self) -> str:
        """Why a question is not asked any more; begins with `SPENT_BY_RUN`."""
        return f"{SPENT_BY_RUN} ({self.usd:g} USD) is used up: the next run continues"


@dataclass(frozen=True, slots=True)
class PurposeLimit:
    """What one explainer or scorer of a pipeline may cost at its endpoint in one UTC day."""

    purpose: str
    usd: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """The maximum cost of a request, on the accounts of day, purpose and run when it was made."""

    most: Spend
    accounts: tuple[Path, ...]


class Budget:
    """The accounts of an endpoint, a purpose and a run; those without limits are not counted."""

    def __init__(
        self,
        folder: Path,
        profile: EndpointProfile,
        run: RunLimit | None = None,
        purpose: PurposeLimit | None = None,
    ) -> None:
        self.profile = profile
        self.folder = folder
        self.run = run
        self.purpose = purpose
        self.limited = profile.budget_usd is not None or profile.budget_tokens is not None

    def reserve(self, most: Spend) -> Reservation:
        """Reserve the maximum cost of a request.

        Raises:
            Spent: when that would exceed a limit.
        """
        wanted: list[tuple[Path, Callable[[Spend], None]]] = []
        if self.limited:
            wanted.append((self._account(), self._refuse_above))
        if self.purpose is not None:
            wanted.append((self._account(digest(self.purpose.purpose)[:16]), self._refuse_above_purpose))
        if self.run is not None:
            wanted.append((self._account_of_run(self.run), self._refuse_above_run))
        reservation = Reservation(most, ())
        for account, refuse in wanted:
            try:
                self._add(account, most, refuse)
            except Stopped:
                self.settle(reservation, Spend())
                raise
            reservation = Reservation(most, (*reservation.accounts, account))
        return reservation

    def settle(self, reservation: Reservation, actual: Spend) -> None:
        """Replace a reservation by the actual cost, even if its day is over."""
        most = reservation.most
        change = Spend(actual.usd - most.usd, actual.tokens - most.tokens)
        for account in reservation.accounts:
            self._add(account, change)

    def spent(self) -> Spend:
        """The sum of the day's account, including reservations."""
        return _read(self._account())

    def _add(self, account: Path, change: Spend, refuse: Callable[[Spend], None] | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{account}.lock"):
            before = _read(account)
            after = Spend(before.usd + change.usd, before.tokens + change.tokens)
            if refuse is not None:
                refuse(after)
            _write(account, after)

    def _refuse_above(self, spend: Spend) -> None:
        limit = _exceeded(spend, self.profile.budget_usd, self.profile.budget_tokens)
        if limit is not None:
            raise Spent(
                f"the day's budget of endpoint {self.profile.name!r} ({limit}) is used up: "
                "run again tomorrow or raise the budget in its profile"
            )

    def _refuse_above_purpose(self, spend: Spend) -> None:
        assert self.purpose is not None
        limit = _exceeded(spend, self.purpose.usd, self.purpose.tokens)
        if limit is not None:
            raise Spent(
                f"the day's budget of {self.purpose.purpose} at endpoint {self.profile.name!r} ({limit}) is "
                "used up: run again tomorrow or raise budget_usd or budget_tokens of its entry"
            )

    def _refuse_above_run(self, spend: Spend) -> None:
        if self.run is not None and spend.usd > self.run.usd:
            raise Spent(self.run.spent)

    def _account(self, purpose: str = "") -> Path:
        name = f"{self.profile.name}.{purpose}" if purpose else self.profile.name
        return self.folder / f"{name}-{datetime.now(UTC):%Y-%m-%d}.json"

    def _account_of_run(self, run: RunLimit) -> Path:
        return self.folder / f"run-{digest(run.run_id)[:16]}.json"


def _exceeded(spend: Spend, usd: float | None, tokens: int | None) -> str | None:
    """The limit that a spend exceeds, in words; None if it exceeds none."""
    if usd is not None and spend.usd > usd:
        return f"{usd} USD"
    return f"{tokens} tokens" if tokens is not None and spend.tokens > tokens else None


def _write(account: Path, spend: Spend) -> None:
    """Write account and copy to disk: no power cut and no single damaged file loses the record of spend."""
    content = json.dumps({"usd": spend.usd, "tokens": spend.tokens})
    for path in (_copy(account), account):
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    descriptor = os.open(account.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(account: Path) -> Spend:
    """The content of an account; if the account is empty or damaged, of its copy.

    Raises:
        Stopped: when neither can be read, because then the limit could be exceeded.
    """
    found = [spend for path in (account, _copy(account)) if (spend := _parsed(path)) is not None]
    if found:
        return found[0]
    if account.exists() or _copy(account).exists():
        raise Stopped(
            f"{account}, the record of today's spend, is damaged and so is its copy: delete both to "
            "count from zero again"
        )
    return Spend()


def _copy(account: Path) -> Path:
    return account.with_name(f"{account.stem}.copy.json")


def _parsed(path: Path) -> Spend | None:
    try:
        plain = json.loads(path.read_text("utf-8"))
        return Spend(float(plain["usd"]), int(plain["tokens"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
