"""Every stage, with a Prefect server that hangs or is gone for good: it ends, and the next does not begin.

Whole runs with a real server, in processes of their own, are in `tests/end_to_end/test_interruptions`.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from catalog.connection import connect
from flows.config import PipelineConfig
from flows.graph import NEEDS, Stage
from flows.reports import started_run
from flows.spine import run_stages
from tasks.common.progress import StageEvent
from tasks.support import reporting
from tasks.support.policies import stage_listener
from tasks.support.reporting import Reporter, ServerLost, current_reporter
from tests.fakes.openai_server import FakeOpenAI, answers
from tests.flows.serverless import tasks_as_functions

JUDGE = {"scorer": "detection", "endpoint": "judge", "n_features": 1, "accept_chance": True}
SECTIONS: dict[str, Any] = {
    "name": "alone",
    "corpus": {"source": "stdlib"},
    "models": [
        {"id": "pico-b", "source": "embedded"},
        {"id": "pico-r", "source": "reinitialised", "of": "pico-b", "seed": 0},
    ],
    "activations": {
        "hookpoints": ["blocks.1.resid_post"],
        "context_length": 64,
        "n_tokens": 6_000,
        "eval_share": 0.25,
        "batch_sequences": 16,
    },
    "dictionaries": [
        {"architecture": "topk", "d_sae": 32, "k": 4, "n_tokens": 2_000, "seed": seed, "train_on": ["pico-b"]}
        for seed in (0, 1)
    ],
    "observe": [{"model": "pico-r"}],
    "mining": {"n_top": 8, "n_per_band": 4, "n_random": 8, "n_neighbour": 4},
    "evaluate": [{"suite": "density_spectrum"}],
    "compare": [{"kind": "models", "a": "pico-b", "b": "pico-r"}],
    "explain": {"explainer": "lexical"},
    "score": [{"scorer": "predicate", "shuffles": 2}, JUDGE],
    "match": [{"matcher": "decoder_cosine", "pairs": ["seeds"]}],
}
FOREVER = 10_000.0


def run(root: Path, events: list[StageEvent], *forced: Stage, heard: Any = None) -> None:
    """The pipeline; its events go to ``events`` and to ``heard``."""

    def hear(event: StageEvent) -> None:
        events.append(event)
        if heard is not None:
            heard(event)

    token = stage_listener.set(hear)
    try:
        with started_run("nightly", "alone", str(root), frozenset(forced), "0") as going:
            run_stages(going, PipelineConfig.model_validate(SECTIONS), ())
    finally:
        stage_listener.reset(token)


@contextmanager
def linked(api_url: str, patience_seconds: float) -> Iterator[Reporter]:
    """A run's link to the server at an address."""
    with temporary_settings({PREFECT_API_URL: api_url}):
        reporter = Reporter(patience_seconds)
    token = current_reporter.set(reporter)
    try:
        yield reporter
    finally:
        current_reporter.reset(token)
        reporter.close()


class _Answers(BaseHTTPRequestHandler):
    """Says yes to everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module", autouse=True)
def without_prefect() -> Iterator[None]:
    """Tasks as functions, and a judge that tosses coins by the length of a passage."""
    with (
        tasks_as_functions(),
        FakeOpenAI(lambda question: answers([len(one) % 2 for one in question.passages])) as judge,
        pytest.MonkeyPatch.context() as patch,
    ):
        for field, value in {"BASE_URL": judge.base_url, "MODEL": "m", "PROBE": "false"}.items():
            patch.setenv(f"FEATLAS_ENDPOINT_JUDGE_{field}", value)
        yield


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StageEvent], bool]:
    """The catalogue and the events of a run whose server accepts connections and never answers.

    A request would end after an hour: whatever waits for one never ends in a test.
    """
    root = tmp_path_factory.mktemp("hung") / "catalogue"
    events: list[StageEvent] = []
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        patch.setattr(reporting, "TRY_SECONDS", 3_600.0)
        with linked(f"http://127.0.0.1:{server.getsockname()[1]}/api", FOREVER) as reporter:
            run(root, events)
            was_told = reporter.wait_until_told(0.0) if reporter.silent_seconds else not reporter._waiting
    return root, events, was_told


def test_no_stage_waits_for_a_server_that_hangs(hung: tuple[Path, list[StageEvent], bool]) -> None:
    _, events, was_told = hung
    assert {event.stage for event in events if event.state == "computed"} == set(NEEDS)
    assert not was_told


@pytest.mark.parametrize("stage", NEEDS)
def test_a_stage_ends_without_its_server_and_the_next_does_not_begin(
    stage: Stage, hung: tuple[Path, list[StageEvent], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes for good while the first unit of the stage works."""
    root = hung[0]
    events: list[StageEvent] = []
    monkeypatch.setattr(reporting, "PAUSE_SECONDS", 0.05)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def end_server(event: StageEvent) -> None:
        if event.state == "started" and not reporter.is_lost:
            server.shutdown()
            server.server_close()
            reporter.tell("first", "markdown", "is anybody there?")
            deadline = time.monotonic() + 60
            while not reporter.is_lost:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    computed = [event.stage for event in hung[1] if event.state == "computed"]
    is_last = computed.index(stage) == len(computed) - 1
    lost: AbstractContextManager[Any] = nullcontext()
    if not is_last:
        lost = pytest.raises(ServerLost, match="run again to go on")
    with linked(f"http://127.0.0.1:{server.server_port}/api", 0.0) as reporter, lost:
        run(root, events, stage, heard=end_server)
    worked = "train_together" if stage == "train_dictionary" else stage  # trains one or several
    assert [event.stage for event in events if event.state == "started"] == [worked]
    after = events[[event.state for event in events].index("computed") :]
    assert {event.stage for event in after} <= {stage, worked}
    assert {event.stage for event in after if event.state in ("computed", "found")} == {stage}
    with connect(root) as connection:
        query = "select state, error from runs order by started_at desc limit 1"
        ((state, error),) = connection.execute(query).fetchall()
    assert (state, "the Prefect server at" in str(error)) == (
        ("completed", False) if is_last else ("failed", True)
    )
