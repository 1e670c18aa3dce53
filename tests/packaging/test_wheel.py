"""An installation without a clone: what each extra brings, and what featlas says of what is missing."""

import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prefect.client.orchestration import SyncPrefectClient

from catalog.version import code_version
from flows.access import access_key
from flows.attached import attached_command
from flows.engine import free_port

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "catalog"))

import small  # noqa: E402

PACKAGES = ("flows", "tasks", "catalog", "dashboards")
HEAVY = ("torch", "prefect", "streamlit", "transformers", "openai")


@pytest.fixture(scope="module")
def reader(install: Callable[[str], Any]) -> Any:
    """The smallest installation, beside a small catalogue."""
    installation = install("catalog")
    small.do_stage(installation.folder / "catalogue", 0)
    return installation


def test_wheel_carries_data_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    suffixes = {".sql", ".yaml", ".safetensors", ".json", ".js", ".css", ".txt", ".typed"}
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    }
    assert {"flows/prefect.yaml", "catalog/py.typed"} <= expected
    assert expected - names == set()
    assert not [name for name in names if name.startswith(("tests/", "infra/"))]


def test_catalog_extra_leaves_the_heavy_packages_out(reader: Any) -> None:
    found = reader.python(
        f"from importlib.util import find_spec; print([m for m in {HEAVY!r} if find_spec(m)])"
    )
    assert found.stdout.strip() == "[]", found.stderr


def test_catalog_extra_reads_a_catalogue(reader: Any) -> None:
    asked = reader.python(
        "import catalog; print(catalog.__file__); "
        "print(catalog.connect('catalogue').sql('select count(*) from features').fetchall()[0][0])"
    )
    where, count = asked.stdout.splitlines()
    assert str(reader.folder) in where
    assert int(count) > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--version"], f"featlas {code_version().partition('+')[0]}"),
        (["sql", "select count(*) n from examples", "--format", "csv"], "n"),
        (["show", f"{small.DICTIONARY}#0"], "topk"),
        (["verify"], "no fault"),
        (["--help"], "Usage"),
    ],
    ids=["version", "sql", "show", "verify", "help"],
)
def test_catalog_extra_has_the_commands_that_read(reader: Any, arguments: list[str], expected: str) -> None:
    done = reader.featlas(*arguments, FEATLAS_CATALOG="catalogue")
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


@pytest.mark.parametrize(
    "arguments", [["run", "demo"], ["ui"], ["up"], ["deploy"], ["import", "saelens", "there"], ["doctor"]]
)
def test_a_command_that_needs_more_says_what_to_install(reader: Any, arguments: list[str]) -> None:
    done = reader.featlas(*arguments, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "featlas-platform[all]" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_dashboard_extra_serves_the_pages_without_the_heavy_packages(install: Callable[[str], Any]) -> None:
    installation, port = install("dashboard"), free_port()
    small.do_stage(installation.folder / "catalogue", 0)
    heavy = [name for name in HEAVY if name != "streamlit"]
    found = installation.python(
        f"from importlib.util import find_spec; print([m for m in {heavy!r} if find_spec(m)])"
    )
    assert found.stdout.strip() == "[]", found.stderr
    command = installation.command("ui", "--port", str(port), "--catalog", "catalogue")
    settings: dict[str, Any] = {"cwd": installation.folder, "env": installation.environment}
    with subprocess.Popen(attached_command(command), **settings) as pages:
        try:
            deadline = time.monotonic() + 120
            while not answers(f"http://127.0.0.1:{port}/_stcore/health"):
                assert pages.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            pages.send_signal(signal.SIGINT)
            pages.wait(60)


def answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def platform(install: Callable[[str], Any]) -> Iterator[tuple[Any, str]]:
    """``featlas up`` of a whole installation, and the address of its Prefect API."""
    installation = install("all")
    server_port, port = free_port(), free_port()
    log = installation.folder / "up.log"
    command = installation.command("up", "--server-port", str(server_port), "--port", str(port))
    with (
        log.open("wb") as output,
        subprocess.Popen(
            attached_command(command),
            cwd=installation.folder,
            env=installation.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as up,
    ):
        try:
            deadline = time.monotonic() + 180
            while b"dashboard " not in log.read_bytes():
                assert up.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield installation, f"http://127.0.0.1:{server_port}/api"
        finally:
            up.send_signal(signal.SIGINT)
            up.wait(60)
    assert up.returncode == 0, log.read_text()


@pytest.mark.engine
def test_deploy_works_from_the_wheel(platform: tuple[Any, str]) -> None:
    installation, api_url = platform
    done = installation.featlas("deploy", PREFECT_API_URL=api_url)
    assert done.returncode == 0, done.stderr
    assert "nightly/demo" in done.stdout


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_a_worker_runs_a_deployment_from_the_wheel(platform: tuple[Any, str]) -> None:
    installation, api_url = platform
    key = access_key(installation.folder / "state" / "prefect")
    with SyncPrefectClient(api_url, auth_string=key) as client:
        deployment = client.read_deployment_by_name("housekeeping/daily")
        run = client.create_flow_run_from_deployment(deployment.id)
        deadline = time.monotonic() + 180
        while not (state := client.read_flow_run(run.id).state) or not state.is_final():
            assert time.monotonic() < deadline, state
            time.sleep(0.5)
    assert state.is_completed(), state.message
