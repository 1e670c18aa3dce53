"""What was spent is not forgotten: not by a power cut, nor by a file that is empty or damaged."""

import os
from pathlib import Path

import pytest

from tasks.autointerp.budget import Budget, Spend
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
