"""Runs that are stopped, and runs whose Prefect server hangs or is gone: they end, and they go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from catalog.connection import connect
from flows.access import access_key, client_settings
from flows.engine import free_port, is_healthy, start_server
from flows.graph import NEEDS
from flows.local import INTERRUPTED
from tasks.support.reporting import PATIENCE_VARIABLE

LONG = [{"architecture": "topk", "d_sae": 64, "k": 8, "lr": 0.001, "n_tokens": 400_000_000}]
SHORT = [{"architecture": "topk", "d_sae": 64, "k": 8, "lr": 0.001, "n_tokens": 1_500_000}]


class Started:
    """``featlas run`` in a process group of its own, its output in files."""

    def __init__(self, user: Any, pipeline: Path, **variables: str) -> None:
        self.out, self.err = user.folder / "out.log", user.folder / "err.log"
        command = [sys.executable, "-m", "flows.cli", "run", str(pipeline)]
        command += ["--catalog", str(user.folder / "catalogue"), "--log-format", "json"]
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                cwd=user.folder,
                env={**user.environment, **variables},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def events(self) -> list[tuple[str, str]]:
        """What its lines say: state and stage."""
        lines = self.out.read_text().splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [(line["state"], line.get("stage", "")) for line in said]

    def has(self, state: str, stage: str) -> bool:
        assert self.process.poll() is None, self.out.read_text()[-2000:] + self.err.read_text()[-2000:]
        return (state, stage) in self.events()

    def server(self) -> psutil.Process:
        """Its own Prefect server."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in children if "flows.api_server" in child.cmdline())


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Somebody without a server: every run starts its own."""
    from tests.end_to_end.conftest import User

    return User(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture
def own_server(tmp_path: Path, wait_for: Any) -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """What names a server that a test may stop and continue, and its process."""
    port = free_port()
    home = tmp_path / "prefect"
    home.mkdir()
    server = start_server(port, home=home, log=home / "server.log", with_ui=False, with_services=False)
    address = f"http://127.0.0.1:{port}/api"
    wait_for("the Prefect server", lambda: is_healthy(address), 120)
    named = {"PREFECT_API_URL": address, **client_settings(access_key(home))}
    yield named, psutil.Process(server.pid)
    server.send_signal(signal.SIGCONT)
    server.terminate()
    server.wait(20)


def last_run(catalogue: Path) -> tuple[str, str]:
    with connect(catalogue) as connection:
        row = connection.execute("select state, error from runs order by started_at desc limit 1").fetchone()
    assert row is not None
    return str(row[0]), str(row[1])


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_group_ends_the_run_and_its_children(
    number: signal.Signals, user: Any, wait_for: Any
) -> None:
    """``timeout`` and systemd send SIGTERM to the group, a terminal sends SIGINT: not only to the run."""
    run = Started(user, user.pipeline("long", models=user_models(), dictionaries=LONG))
    wait_for("training", lambda: run.has("started", "train_dictionary"), 200)
    family = psutil.Process(run.process.pid).children(recursive=True)
    os.killpg(run.process.pid, number)
    assert run.process.wait(60) == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert run.err.read_text().splitlines()[-1] == f"featlas: {INTERRUPTED}"
    assert "Traceback" not in run.err.read_text()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert last_run(user.folder / "catalogue") == ("cancelled", INTERRUPTED)
    with connect(user.folder / "catalogue") as connection:
        states = connection.execute("select distinct stage, state from stage_runs").fetchall()
    assert ("train_dictionary", "failed") not in states


@pytest.mark.engine
def test_a_server_that_is_gone_for_good_costs_no_stage_and_ends_in_one_sentence(
    user: Any, wait_for: Any
) -> None:
    pipeline = user.pipeline("short", models=user_models(), dictionaries=SHORT)
    run = Started(user, pipeline, **{PATIENCE_VARIABLE: "1"})
    wait_for("training", lambda: run.has("started", "train_dictionary"), 200)
    run.server().kill()
    assert run.process.wait(200) == 1
    assert ("computed", "train_dictionary") in run.events()
    assert ("started", "evaluate_dictionary") not in run.events()
    said = run.err.read_text().strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("featlas: the Prefect server at http://127.0.0.1:")
    assert "run again to go on" in said[0]
    state, error = last_run(user.folder / "catalogue")
    assert (state, "the Prefect server at" in error) == ("failed", True)


@pytest.mark.engine
def test_no_stage_waits_for_a_server_that_hangs(
    user: Any, own_server: tuple[dict[str, str], psutil.Process], wait_for: Any
) -> None:
    """The server accepts connections and answers none, from the first stage to the last."""
    named, server = own_server
    pipeline = user.pipeline("hanging", evaluate=[{"suite": "density_spectrum"}])
    run = Started(user, pipeline, **named, **{PATIENCE_VARIABLE: "100000"})
    begun_at = time.monotonic()
    wait_for("the first stage", lambda: ("load_corpus") in [stage for _, stage in run.events()], 120, 0.02)
    server.suspend()
    wait_for("the last stage", lambda: run.has("computed", "match_features"), 280)
    print(f"every stage without its server: {time.monotonic() - begun_at:.0f} s")
    server.resume()
    assert run.process.wait(120) == 0, run.err.read_text()[-3000:]
    done = {stage for state, stage in run.events() if state in ("computed", "found")}
    not_asked_for = {"observe_dictionary", "compare_observations", "calibrate_judge"}
    assert set(NEEDS) - done == not_asked_for
    assert last_run(user.folder / "catalogue")[0] == "completed"


def user_models() -> list[dict[str, Any]]:
    """One model: enough for a training."""
    return [{"id": "pico-a", "source": "embedded", "hookpoints": ["blocks.2.resid_post"]}]
