"""Nights that drift raise alarms, steady nights raise none."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prefect.events.schemas.automations import EventTrigger
from prefect.events.schemas.events import Resource

from catalog.connection import connect
from catalog.ids import tagged_id
from catalog.ledger import Claim
from catalog.queries import alarms as alarms_query
from catalog.store import SliceWrite, TableStore
from flows import drift
from flows.automations import alerts
from flows.drift import find_alarms, raise_alarms
from flows.reports import Run
from tasks.common.progress import ProgressListener
from tasks.measures.drift import Expectation
from tasks.support.policies import Results, StageContext, UnitKey, run_unit
from tests.catalog import small

ALIASES = ("m/blocks.2.resid_post/topk-s0", "m/blocks.2.resid_post/topk-s1")
STEADY = {"fvu": 0.2, "l0": 8.0, "ce_recovered": 0.95, "unseen share": 0.1, "match rate toy": 0.6}
N_FEATURES = 200


def night(root: Path, number: int, values: Mapping[str, float]) -> Run:
    """Two trained dictionaries, measured, mined and matched; each training has an id of its own."""
    context = StageContext(root, f"run-{number}", device="cpu")
    run = Run("nightly", "tiny", context, datetime.now(UTC), "0")
    ids = [tagged_id(alias, f"{number:08x}") for alias in ALIASES]
    slices = [SliceWrite("matches", " ".join(ids), matches(*ids, values["match rate toy"]))]
    for name, alias in zip(ids, ALIASES, strict=True):
        slices += [
            SliceWrite("dictionaries", name, small.dictionary(name, alias=alias)),
            SliceWrite("dictionary_metrics", name, metrics(name, values)),
            SliceWrite("features", name, features(name, values["unseen share"])),
        ]
    run.add("all", committed(context, "toy", f"night {number}", slices))
    run.write_row("completed")
    raise_alarms(run)
    return run


def committed(context: StageContext, stage: str, label: str, slices: list[SliceWrite]) -> Any:
    def compute(claim: Claim, listener: ProgressListener) -> Results:
        return Results(slices, {})

    return run_unit(context, UnitKey(stage, 1, label, {"label": label}), compute)


def metrics(name: str, values: Mapping[str, float]) -> Any:
    common = {"dictionary_id": name, "activation_set_id": small.SET, "split": "eval", "n": 10}
    return small.table(
        "dictionary_metrics",
        [
            {**common, "metric": metric, "variant": "", "value": values[metric], "metric_version": 1}
            for metric in ("fvu", "l0", "ce_recovered")
        ],
    )


def features(name: str, unseen: float) -> Any:
    rows = small.features(0, N_FEATURES, name).to_pylist()
    for row in rows[: round(unseen * N_FEATURES)]:
        row |= {"status": "unseen", "n_tokens": 0, "density": 0.0}
    return small.table("features", rows)


def matches(a: str, b: str, rate: float) -> Any:
    common = {"dictionary_a": a, "dictionary_b": b, "method": "toy", "activation_sets": small.SET}
    common |= {"score": 0.5, "rank": 0, "mutual": True, "n": 10}
    verdicts = ["same" if i < rate * N_FEATURES else "unmatched" for i in range(N_FEATURES)]
    return small.table(
        "matches",
        [{**common, "feature_a": i, "feature_b": i, "verdict": said} for i, said in enumerate(verdicts)],
    )


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight nights of the same values with noise of one percent."""
    root = tmp_path_factory.mktemp("drift") / "catalogue"
    TableStore(root).publish(small.models(), fingerprint="0" * 64)
    rng = np.random.default_rng(0)
    for number in range(8):
        values = {name: value * (1 + 0.01 * rng.standard_normal()) for name, value in STEADY.items()}
        assert "alarms" not in night(root, number, values).facts
    return root


def test_steady_nights_raise_none(steady: Path) -> None:
    with connect(steady) as connection:
        assert connection.execute("select count(*) from alarms").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("number", "metric", "value"),
    [(101, "fvu", 0.4), (102, "unseen share", 0.4), (103, "match rate toy", 0.1), (104, "ce_recovered", 0.7)],
)
def test_a_night_that_drifts_raises_one(steady: Path, number: int, metric: str, value: float) -> None:
    run = night(steady, number, {**STEADY, metric: value})
    Run("nightly", "tiny", StageContext(steady, f"idle-{number}"), datetime.now(UTC), "0").write_row(
        "completed"
    )
    names = {" | ".join(ALIASES)} if metric.startswith("match") else set(ALIASES)
    with connect(steady) as connection:
        rows = alarms_query(run_id=f"run-{number}").read(connection).to_pylist()
        newest = alarms_query().read(connection).to_pylist()
    assert {(row["about"], row["metric"]) for row in rows} == {(name, metric) for name in names}
    assert all(abs(row["value"] - row["expected"]) > row["tolerance"] for row in rows)
    assert newest == rows
    assert len(run.facts["alarms"]) == len(names)
    assert run.facts["alarms"][0].startswith(f"{metric} of m/blocks.2.resid_post/topk-s0")
    faults = TableStore(steady).verify()
    assert [fault for fault in faults if not fault.endswith("is missing")] == []


def test_a_run_that_computed_nothing_looks_at_nothing(steady: Path) -> None:
    assert find_alarms(steady, "run-of-nobody") == []


def test_the_event_of_an_alarm_is_the_one_that_the_alert_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(drift, "FlowRunContext", SimpleNamespace(get=lambda: "a flow"))
    monkeypatch.setattr(drift, "emit_event", lambda event, **other: sent.append({"event": event, **other}))
    run = Run("nightly", "tiny", StageContext(Path(), "run-1"), datetime.now(UTC), "0")
    drift._emit(run, drift.Alarm(ALIASES[0], "match rate toy", 0.4, Expectation(0.2, 0.01, 8)))
    (event,) = sent
    (alert,) = [one for one in alerts(["pool"], None) if "range" in one.name]
    assert isinstance(alert.trigger, EventTrigger)
    assert event["event"] in alert.trigger.expect
    assert alert.trigger.match.matches(Resource(event["resource"]))
    assert event["payload"]["message"].endswith("is 0.4, expected 0.2 ± 0.01 after 8 trainings")
