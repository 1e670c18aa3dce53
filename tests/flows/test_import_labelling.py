"""An import by a worker leaves the labels of an endpoint to a run of the light pool, and so frees the GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from catalog.ledger import StageOutcome
from flows import import_dictionary as module
from flows import labelling
from flows.deployments import full_name, read_deployments
from flows.import_dictionary import LABELS, import_dictionary
from flows.labelling import LABELLING
from flows.walk import Walk

SAELENS = Path(__file__).resolve().parents[1] / "golden" / "formats" / "saelens" / "topk"
ASKING = ["explain={explainer: contexts, endpoint: judge}"]
WHERE = {"model": "pico-a", "hookpoint": "blocks.1.resid_post", "settings": ["k=3"]}


class Stages:
    """What is walked after the dictionary landed, and what is started, in the place of hours of work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.walked: list[tuple[str, frozenset[str]]] = []
        self.started: list[tuple[str, dict[str, Any]]] = []
        landed = StageOutcome("f" * 64, "import_dictionary", True, facts={"dictionary_id": "d"})
        monkeypatch.setattr(module, "_landed", lambda *_: landed)
        monkeypatch.setattr(module, "suite_stages", lambda *_: self.walked.append(("suites", frozenset())))
        monkeypatch.setattr(module, "_match_stages", lambda *_: self.walked.append(("match", frozenset())))
        monkeypatch.setattr(module, "dictionary_stages", self._walk)
        monkeypatch.setattr(labelling, "run_deployment", self._start)

    def _walk(self, walk: Walk, *_: Any) -> None:
        self.walked.append(("dictionary", walk.chosen))

    def _start(self, name: str, parameters: dict[str, Any], **_: Any) -> Any:
        self.started.append((name, parameters))
        return SimpleNamespace(id=UUID(int=1))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages(monkeypatch)


@pytest.fixture
def by_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "some-id")


def run(tmp_path: Path, overrides: list[str], **fields: Any) -> None:
    import_dictionary.fn(
        "saelens", str(SAELENS), "demo", **WHERE, catalogue=str(tmp_path), overrides=overrides, **fields
    )


@pytest.mark.usefixtures("by_worker")
def test_a_worker_hands_the_labels_of_an_endpoint_over_and_the_next_run_makes_them(
    stages: Stages, tmp_path: Path
) -> None:
    run(tmp_path, ASKING, accept_unverified=True, force=True)
    assert [name for name, _ in stages.walked] == ["dictionary", "suites", "match"]
    assert not stages.walked[0][1] & set(LABELLING)
    ((name, parameters),) = stages.started
    deployed = {full_name(entry): entry for entry in read_deployments()}[name]
    assert name == LABELS
    assert deployed["work_pool"]["name"] == "featlas-cpu"
    checked = import_dictionary.validate_parameters(parameters)
    assert checked["found_only"] is checked["accept_unverified"] is checked["force"] is True
    stages.walked.clear()
    import_dictionary.fn(**checked)
    assert stages.walked == [("dictionary", frozenset(("mine_examples", *LABELLING)))]
    assert len(stages.started) == 1, "it hands nothing over again"


@pytest.mark.usefixtures("by_worker")
def test_labels_without_an_endpoint_are_made_in_place(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path, [])
    assert stages.walked[0][1] >= set(LABELLING)
    assert stages.started == []


def test_an_import_by_hand_does_everything_itself(stages: Stages, tmp_path: Path) -> None:
    run(tmp_path, ASKING)
    assert stages.walked[0][1] >= set(LABELLING)
    assert stages.started == []
