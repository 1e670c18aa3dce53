"""What was spent is not forgotten: not by a power cut, nor by a file that is empty or damaged."""

import os
from pathlib import Path

import pytest

from catalog.errors import UserError
from tasks.autointerp.budget import Budget, PurposeLimit, Spend
from tasks.autointerp.chat import Stopped
from tasks.autointerp.endpoint import EndpointProfile


@pytest.fixture
def budget(tmp_path: Path) -> Budget:
    profile = EndpointProfile(name="local", base_url="http://127.0.0.1:1/v1", model="m", budget_usd=1.0)
    return Budget(tmp_path / "spend", profile)


def account(budget: Budget) -> Path:
    (found,) = [path for path in budget.folder.glob("*.json") if not path.name.endswith(".copy.json")]
    return found


@pytest.mark.parametrize("content", ["", "{", "[]", '{"usd": 1}', "\x00" * 20])
def test_a_damaged_account_is_read_from_its_copy(budget: Budget, content: str) -> None:
    budget.reserve(Spend(0.75, 100))
    account(budget).write_text(content)
    assert budget.spent() == Spend(0.75, 100)
    with pytest.raises(Stopped, match="used up"):
        budget.reserve(Spend(0.5, 10))
    budget.reserve(Spend(0.25, 10))
    assert budget.spent() == Spend(1.0, 110)


def test_without_account_and_copy_nothing_more_is_spent(budget: Budget) -> None:
    budget.reserve(Spend(0.75, 100))
    for path in budget.folder.glob("*.json"):
        path.write_text("")
    with pytest.raises(Stopped, match="delete both"):
        budget.reserve(Spend(0.1, 1))


def test_the_account_is_on_disk_before_it_is_named(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(descriptor), real(descriptor))[1])
    budget.reserve(Spend(0.1, 1))
    assert len(flushed) == 3, "account, copy and folder"


def test_explaining_leaves_the_judge_its_money(tmp_path: Path) -> None:
    """Two entries at one endpoint: each has its account, and the endpoint's limit holds for both."""
    profile = EndpointProfile(name="local", base_url="http://127.0.0.1:1/v1", model="m", budget_usd=1.0)
    explain, judge, other = (
        Budget(tmp_path / "spend", profile, purpose=PurposeLimit(name, usd, tokens))
        for name, usd, tokens in (("contexts", 0.4, None), ("detection", None, 500), ("fuzzing", None, None))
    )
    explain.reserve(Spend(0.4, 10))
    with pytest.raises(Stopped, match=r"day's budget of contexts at endpoint 'local' \(0.4 USD\) is used up"):
        explain.reserve(Spend(0.1, 10))
    assert explain.spent().usd == pytest.approx(0.4), "what was refused is not booked"
    judge.reserve(Spend(0.3, 400))
    with pytest.raises(Stopped, match=r"budget of detection .* \(500 tokens\)"):
        judge.reserve(Spend(0.0, 200))
    again = Budget(tmp_path / "spend", profile, purpose=PurposeLimit("contexts", 0.65))
    again.settle(again.reserve(Spend(0.2, 10)), Spend(0.1, 5))
    again.reserve(Spend(0.1, 10))
    with pytest.raises(Stopped, match="budget of contexts"):
        again.reserve(Spend(0.1, 10))
    with pytest.raises(Stopped, match=r"budget of endpoint 'local' \(1.0 USD\)"):
        other.reserve(Spend(0.3, 10))


PRICE = {"input_usd_per_million": 1.0}


@pytest.mark.parametrize(
    ("url", "fields", "is_limited", "is_refused"),
    [
        ("https://api.example.org/v1", {}, False, False),
        ("https://api.example.org/v1", {}, True, True),
        ("https://api.example.org/v1", {"budget_usd": 2.0}, False, True),
        ("https://api.example.org/v1", {"budget_usd": 2.0, **PRICE}, True, False),
        ("https://api.example.org/v1", {"budget_tokens": 9}, False, False),
        ("http://127.0.0.1:1/v1", {"budget_usd": 2.0}, True, False),
    ],
)
def test_a_limit_in_money_needs_prices(
    url: str, fields: dict[str, float], is_limited: bool, is_refused: bool
) -> None:
    """A server on this machine may cost nothing; a remote one without prices would spend without end."""
    profile = EndpointProfile(name="far", base_url=url, model="m", **fields)  # type: ignore[arg-type]
    if is_refused:
        with pytest.raises(
            UserError, match="'far' has no prices, so a budget in USD cannot hold: set input_usd"
        ):
            profile.check_prices(is_limited)
    else:
        profile.check_prices(is_limited)
