"""Against a real `transformers serve` with a small local model, which ignores reply schemas."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from catalog.schemas import CallOutcome
from tasks.activations.models.embedded import embedded_model_path
from tasks.autointerp.asking import Asker
from tasks.autointerp.client import open_client
from tasks.autointerp.explainers.contexts import ContextsConfig
from tasks.autointerp.records import read_evidence
from tasks.autointerp.runner import explain, score
from tasks.autointerp.scorers.detection import DetectionConfig
from tests.tasks.autointerp.planted import distinct, features
from tests.tasks.autointerp.test_judging import explanations

IDS = {"dictionary_id": "d-00000000", "activation_set_id": "s-00000000"}
START_SECONDS = 180
PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
N = 3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and model name of a server on the embedded model, given the chat template it lacks."""
    folder = tmp_path_factory.mktemp("served")
    model = folder / "model"
    shutil.copytree(embedded_model_path("pico-a"), model)
    (model / "chat_template.jinja").write_text(PLAIN_TEMPLATE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(model), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--device", "cpu"], env=environ, stdout=log, stderr=log
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/health", server, folder / "log")
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        server.terminate()
        server.wait(20)


def wait_until_up(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        assert server.poll() is None, log.read_text()[-2_000:]
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(f"not up after {START_SECONDS} s: {log.read_text()[-2_000:]}")


def client(served: tuple[str, str], folder: Path) -> Asker:
    environ = {
        "FEATLAS_ENDPOINT_SERVED_BASE_URL": served[0],
        "FEATLAS_ENDPOINT_SERVED_MODEL": served[1],
        "FEATLAS_ENDPOINT_SERVED_CONCURRENCY": "1",
    }
    return open_client("served", environ=environ, cache_folder=folder / "cache", owner="stage")


@pytest.mark.timeout(400)
def test_every_reply_ends_as_a_recorded_outcome(served: tuple[str, str], tmp_path: Path) -> None:
    config = ContextsConfig(endpoint="served", n_firing=2, n_silent=1, max_tokens=24)
    table = distinct(N)
    explained = explain(
        read_evidence(features(N), [table]),
        config,
        client=client(served, tmp_path),
        scratch=tmp_path / "explain",
        **IDS,
    )
    rows = explained.explanations.to_pylist()
    assert [row["feature_index"] for row in sorted(rows, key=lambda row: row["feature_index"])] == [0, 1, 2]
    assert {row["status"] for row in rows} <= set(get_args(CallOutcome)) - {"error"}
    assert all((row["text"] is None) == (row["status"] != "ok") for row in rows)
    assert explained.facts["complete"] is True
    assert explained.facts["enforces_schema"] is False
    calls = explained.llm_calls.to_pylist()
    assert len(calls) == N + 1
    assert all(call["prompt_tokens"] > 0 and call["completion_tokens"] > 0 for call in calls)

    judge = DetectionConfig(endpoint="served", n_firing=2, n_random=2, n_neighbour=1, shuffles=0)
    scored = score(
        read_evidence(features(N), [table]),
        explanations(N),
        judge,
        client=client(served, tmp_path),
        scratch=tmp_path / "score",
        **IDS,
    )
    assert scored.judgements.num_rows == N * 5
    outcomes = {row["call_id"]: row["outcome"] for row in scored.llm_calls.to_pylist()}
    for row in scored.judgements.to_pylist():
        assert (row["answer"] is None) == (outcomes[row["call_id"]] != "ok")
