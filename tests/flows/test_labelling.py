"""Which run labels: this one, or one of the light pool."""

import pytest

from flows.config import PipelineConfig, load_pipeline
from flows.graph import NEEDS, with_needs
from flows.labelling import LABELLING, stages_here

DEPLOYMENT = "PREFECT__RUNTIME__DEPLOYMENT__ID"


def asking() -> PipelineConfig:
    return load_pipeline("demo", ["explain={explainer: contexts, endpoint: judge}"])


def test_a_worker_hands_over_what_asks_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEPLOYMENT, "some-id")
    assert set(stages_here(asking(), ())) == set(NEEDS) - set(LABELLING)
    assert set(stages_here(load_pipeline("demo"), ())) == set(NEEDS), "lexical labels need no endpoint"
    assert set(stages_here(asking(), ["match_features"])) == with_needs(["match_features"])


def test_a_run_by_hand_does_everything_itself() -> None:
    assert set(stages_here(asking(), ())) == set(NEEDS)
