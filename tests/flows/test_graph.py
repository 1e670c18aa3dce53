"""The table of stages, and a walk that is limited to some of them."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from catalog.ledger import StageOutcome
from flows.config import load_pipeline
from flows.graph import NEEDS, with_needs
from flows.reports import Run
from flows.walk import Walk
from tasks.support.policies import StageContext


class Stub:
    """A stage that notes what it is asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[str] = []

    def __call__(self, _context: StageContext, unit: Any) -> StageOutcome:
        self.seen.append(unit.label)
        return StageOutcome("0" * 64, self.name, True)


def test_every_stage_comes_after_what_it_reads() -> None:
    names = list(NEEDS)
    for stage, needs in NEEDS.items():
        assert all(names.index(need) < names.index(stage) for need in needs), stage


def test_a_stage_outside_the_walk_ends_its_branch_and_nothing_else(tmp_path: Path) -> None:
    run = Run("test", "demo", StageContext(tmp_path, "run-1"), datetime.now(UTC), "0")
    walk = Walk(run, load_pipeline("demo"), with_needs(["mine_examples"]))
    mine, score, unit = Stub("mine_examples"), Stub("score_explanations"), SimpleNamespace(label="one")
    with run.branch("a dictionary"):
        walk.do(mine, unit)  # type: ignore[arg-type]
        walk.do(score, unit)  # type: ignore[arg-type]
        walk.do(mine, unit)  # type: ignore[arg-type]
    assert (mine.seen, score.seen) == (["one"], [])
    assert [label for label, _ in run.outcomes] == ["one"]
    assert run.failures == []
