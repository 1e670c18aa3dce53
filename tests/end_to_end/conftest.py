"""A tiny pipeline on the embedded models, a user's environment, and a platform that may be shot at."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import yaml

from flows.access import access_key
from flows.attached import attached_command
from flows.engine import free_port, is_healthy, start_server
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, explanation

T = TypeVar("T")

TINY: Mapping[str, Any] = {
    "corpus": {"source": "stdlib"},
    "models": [
        {"id": "pico-a", "source": "embedded", "hookpoints": ["blocks.2.resid_post"]},
        {"id": "pico-b", "source": "embedded", "hookpoints": ["blocks.1.resid_post"]},
    ],
    "activations": {"context_length": 64, "n_tokens": 12_000, "eval_share": 0.25, "batch_sequences": 16},
    "dictionaries": [{"architecture": "topk", "d_sae": 64, "k": 8, "lr": 0.001, "n_tokens": 20_000}],
    "mining": {"n_top": 8, "n_per_band": 4, "n_random": 8, "n_neighbour": 8},
    "explain": {"explainer": "lexical"},
    "score": [{"scorer": "predicate", "shuffles": 2}],
    "match": [{"matcher": "activation_correlation", "n_shifts": 50}],
    "schedule": {"cron": "0 2 * * *"},
}


def wait_until(what: str, look: Callable[[], T | None], seconds: float, every: float = 0.2) -> T:
    """What ``look`` finds, asked again and again until it finds something."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what} in vain"
        time.sleep(every)


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., Any]:
    """`wait_until` for tests."""
    return wait_until


@dataclass(frozen=True)
class User:
    """Somebody with a folder of his own who never set anything, and uses the command line."""

    folder: Path
    api_url: str | None = None
    key: str = ""

    @property
    def environment(self) -> dict[str, str]:
        hidden = ("PREFECT_", "FEATLAS_", "OPENAI_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environment |= {"FEATLAS_STATE": str(self.folder / "state"), "OMP_NUM_THREADS": "1"}
        named = {"PREFECT_API_URL": self.api_url, "PREFECT_API_AUTH_STRING": self.key}
        return environment | (named if self.api_url else {})

    def pipeline(self, name: str = "tiny", **sections: Any) -> Path:
        """A pipeline file: the tiny one with some sections replaced."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**TINY, "name": name, **sections}))
        return path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start ``featlas`` with these arguments."""
        command = [sys.executable, "-m", "flows.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, **pipes)

    def featlas(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run ``featlas`` with these arguments to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=280)
            return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run(self, pipeline: Path, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """``featlas run --json``: the summary, the only thing on standard output."""
        done = self.featlas(
            "run", str(pipeline), "--catalog", str(self.folder / "catalogue"), "--json", *arguments
        )
        assert done.returncode == exit_code, done.stderr[-3000:]
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A Prefect server that several tests share, without services, as a run's own: address and key."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    process = start_server(port, home=home, log=home / "server.log", with_ui=False, with_services=False)
    address = f"http://127.0.0.1:{port}/api"
    wait_until("the Prefect server", lambda: is_healthy(address), 120)
    yield address, access_key(home)
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="module")
def user(server: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> User:
    """Somebody with a running Prefect server; one catalogue for the tests of a module."""
    return User(tmp_path_factory.mktemp("user"), *server)


@contextmanager
def webhook() -> Iterator[tuple[str, list[str]]]:
    """A chat service: its address, and the texts that were posted to it."""
    texts: list[str] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as chat:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{chat.server_port}/hook", texts
        chat.shutdown()


class Platform:
    """A real ``featlas up`` with its server, workers and deployments."""

    def __init__(self, folder: Path, pipeline: Path, extra: Mapping[str, str] = {}) -> None:
        self.user = User(folder)
        self.port, dashboard_port = free_port(), free_port()
        self.api_url = f"http://127.0.0.1:{self.port}/api"
        self.catalogue = folder / "catalogue"
        command = [sys.executable, "-m", "flows.cli", "up", "--catalog", str(self.catalogue)]
        command += [
            "--server-port",
            str(self.port),
            "--port",
            str(dashboard_port),
            "--pipeline",
            str(pipeline),
        ]
        self.log = folder / "up.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                attached_command(command),
                env={**self.user.environment, **extra},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.supervisor = psutil.Process(self.process.pid)
        self.alerts: list[str] = []
        self.model_answers = threading.Event()

    @property
    def key(self) -> str:
        """The key of its Prefect server."""
        return access_key(self.user.folder / "state" / "prefect")

    def wait_until_ready(self) -> None:
        """Until the deployments are registered and both workers have started."""
        wait_until("the platform", lambda: b"dashboard " in self.log.read_bytes(), 180)
        wait_until("the worker", self.worker, 60)

    def worker(self) -> psutil.Process | None:
        """The process of the worker of the GPU pool."""
        for child in self.supervisor.children():
            line = command_line(child)
            if "worker" in line and "featlas-gpu" in line and "flows.attached" not in line:
                return child
        return None

    def flow(self) -> psutil.Process | None:
        """The process of the flow run that the GPU worker runs."""
        worker = self.worker()
        children = worker.children() if worker else []
        return next((child for child in children if "prefect" in " ".join(command_line(child))), None)

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        return is_healthy(self.api_url)

    def stop(self) -> None:
        """End it as Ctrl-C does; nothing may stay behind."""
        family = self.supervisor.children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(60) == 0, self.log.read_text()[-3000:]
        _, alive = psutil.wait_procs(family, timeout=20)
        for process in alive:
            process.kill()
        assert not alive, [command_line(process) for process in alive]


def command_line(process: psutil.Process) -> list[str]:
    """The command line of a process; empty when it has gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """The platform of a module, with the pipeline ``tiny`` deployed."""
    folder = Path(tempfile.mkdtemp(prefix="featlas-platform-"))  # pytest's own lets no other user through
    folder.chmod(0o755)
    gate = threading.Event()

    def brain(question: Question) -> Answer:
        gate.wait(300)
        return explanation("fires on something")

    with webhook() as (url, texts), FakeOpenAI(brain) as model:
        extra = {"FEATLAS_CHECKPOINT_SECONDS": "0.5", "FEATLAS_WEBHOOK_URL": url}
        profile = {"BASE_URL": model.base_url, "MODEL": "m", "PROBE": "false", "ATTEMPT_SECONDS": "100"}
        extra |= {f"FEATLAS_ENDPOINT_JUDGE_{name}": value for name, value in profile.items()}
        running = Platform(folder, User(folder).pipeline(), extra)
        running.alerts, running.model_answers = texts, gate
        try:
            running.wait_until_ready()
            yield running
        finally:
            running.stop()
    shutil.rmtree(folder)
