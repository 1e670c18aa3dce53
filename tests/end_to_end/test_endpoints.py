"""A pipeline on an endpoint that is down, then asks to wait, then answers: nobody has to repair anything."""

import re
from pathlib import Path
from typing import Any

import pytest

from catalog.connection import connect
from catalog.verify import verify
from flows.engine import free_port
from tests.fakes.openai_server import Answer, FakeOpenAI, Fault, Question, answers, explanation

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SECTIONS: dict[str, Any] = {
    "models": [{"id": "pico-b", "source": "embedded", "hookpoints": ["blocks.1.resid_post"]}],
    "activations": {"context_length": 64, "n_tokens": 12_000, "eval_share": 0.25, "batch_sequences": 16},
    "dictionaries": [{"architecture": "topk", "d_sae": 32, "k": 4, "lr": 0.001, "n_tokens": 8_000}],
    "explain": [{"explainer": "contexts", "endpoint": "judge", "n_firing": 2}, {"explainer": "lexical"}],
    "score": [
        {"scorer": "detection", "endpoint": "judge", "n_firing": 2, "n_random": 2, "accept_chance": True}
    ],
    "match": [],
}
PROFILE = """
[endpoints.judge]
base_url = "http://127.0.0.1:{port}/v1"
model = "m"
attempts = 1
breaker_errors = 3
max_wait_seconds = 1
probe = false
"""


def brain(question: Question) -> Answer:
    """Asks to wait once, then answers everything."""
    if question.number == 1:
        return Fault("rate_limit", retry_after="6")
    if "answers" in str(question.body["response_format"]):
        return answers([len(passage) % 2 for passage in question.passages])
    return explanation("words " + " ".join(re.findall("«(\\w+)»", question.text)[:3]))


def stages(summary: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [stage for stage in summary["stages"] if stage["stage"] == name]


def test_labels_that_an_endpoint_owes_are_asked_for_until_they_are_there(user: Any) -> None:
    port, catalogue = free_port(), user.folder / "catalogue"
    Path(user.folder / "featlas.toml").write_text(PROFILE.format(port=port))
    pipeline = user.pipeline("owed", **SECTIONS)

    down = user.run(pipeline, exit_code=1)
    assert down["state"] == "failed"
    assert any("explain_features contexts" in reason and "no answer" in reason for reason in down["failures"])
    by_label = {stage["label"].split()[0]: stage["complete"] for stage in stages(down, "explain_features")}
    assert by_label == {"contexts": False, "lexical": True}

    with FakeOpenAI(brain, port=port) as fake:
        up = user.run(pipeline)
        assert (up["state"], fake.n_questions > 1) == ("completed", True)
        assert all(stage["complete"] for stage in up["stages"])
        labels = [stage["label"].split()[0] for stage in stages(up, "explain_features")]
        assert labels == ["lexical", "contexts"], "the stage that had to wait was taken up last"
        asked = fake.n_questions
        again = user.run(pipeline)
        assert (again["n_recomputed"], fake.n_questions) == (0, asked)
        refused = user.run(pipeline, "--set", "score.0.accept_chance=false", exit_code=1)
        assert fake.n_questions == asked
    assert any("the judge judge for detection is at chance: AUROC 0." in said for said in refused["failures"])

    with connect(catalogue) as connection:
        unlabelled = connection.execute(
            "select count(*) from features as f where status <> 'unseen' and not exists (from explanations "
            "as e where e.feature_index = f.feature_index and e.explainer = 'contexts' and e.status = 'ok')"
        ).fetchone()
        scored = connection.execute(
            "select count(distinct explanation_id) > 0 and min(answered_share) = 1 from scores where n > 0"
        ).fetchone()
    assert (unlabelled, scored) == ((0,), (True,))
    assert verify(catalogue) == []
