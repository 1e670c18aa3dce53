"""An observation by a worker leaves the labels of an endpoint to a run of the light pool."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows import labelling
from flows import observe as module
from flows.deployments import full_name, read_deployments
from flows.graph import with_needs
from flows.labelling import LABELLING
from flows.observe import LABELS, STAGES, observe
from flows.walk import Walk

ASKING = ["explain={explainer: contexts, endpoint: judge}"]


class Runs:
    """What is walked and what is started, in the place of hours of work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.walked: list[Walk] = []
        self.started: list[tuple[str, dict[str, Any]]] = []
        monkeypatch.setattr(module, "check_models", lambda *_: None)
        monkeypatch.setattr(module, "used_dictionaries", lambda *_: [])
        monkeypatch.setattr(module, "observe_stages", lambda walk, _: self.walked.append(walk))
        monkeypatch.setattr(labelling, "run_deployment", self._start)

    def _start(self, name: str, parameters: dict[str, Any], **_: Any) -> Any:
        self.started.append((name, parameters))
        return SimpleNamespace(id=UUID(int=1))

    def observe(self, **fields: Any) -> None:
        observe.fn(["pico-a/*"], "demo", model="pico-b", catalogue=str(self.folder), **fields)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runs:
    return Runs(monkeypatch, tmp_path)


@pytest.fixture
def by_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "some-id")


@pytest.mark.usefixtures("by_worker")
def test_a_worker_hands_the_labels_of_an_endpoint_over_and_the_next_run_makes_them(runs: Runs) -> None:
    runs.observe(overrides=ASKING, force=True)
    assert runs.walked[0].chosen == with_needs(STAGES) - set(LABELLING)
    ((name, parameters),) = runs.started
    assert name == LABELS
    deployed = {full_name(entry): entry for entry in read_deployments()}[name]
    assert deployed["work_pool"]["name"] == "featlas-cpu"
    checked = observe.validate_parameters(parameters)
    assert checked["found_only"] is checked["force"] is True
    observe.fn(**checked)
    assert runs.walked[1].chosen == with_needs(STAGES)
    context = runs.walked[1].run.context
    assert (context.only, context.forced) == (frozenset(LABELLING), frozenset(LABELLING))
    assert len(runs.started) == 1, "it hands nothing over again"


@pytest.mark.usefixtures("by_worker")
@pytest.mark.parametrize(
    "fields", [{}, {"overrides": ASKING, "stages": ["mine_examples"]}], ids=["no endpoint", "no labels"]
)
def test_nothing_is_handed_over_without_labels_of_an_endpoint(runs: Runs, fields: dict[str, Any]) -> None:
    runs.observe(**fields)
    assert runs.walked[0].chosen == with_needs(fields.get("stages", STAGES))
    assert runs.started == []


def test_an_observation_by_hand_does_everything_itself(runs: Runs) -> None:
    runs.observe(overrides=ASKING)
    assert runs.walked[0].chosen == with_needs(STAGES)
    assert runs.started == []
