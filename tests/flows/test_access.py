"""The key of an installation: who can read it, and to whom it is shown."""

import json
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from catalog.errors import UserError
from flows.access import KEY_FILE, KEY_VARIABLE, access_key, key_for, served
from flows.engine import free_port
from flows.named_server import connect_named, wait_until_healthy

URL = "http://127.0.0.1:4200/api"


def test_the_key_is_random_kept_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert access_key(first) == access_key(first) != access_key(second)
    assert access_key(first).startswith("featlas:")
    assert len(access_key(first)) > 40
    assert stat.S_IMODE((first / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in first.iterdir()] == [KEY_FILE]


def test_a_key_that_others_can_read_or_that_is_empty_is_refused(tmp_path: Path) -> None:
    access_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(UserError, match="other users can read"):
        access_key(tmp_path)
    (tmp_path / KEY_FILE).write_text("")
    (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(UserError, match="holds no key"):
        access_key(tmp_path)


def test_processes_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(access_key(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


def test_the_key_is_shown_to_the_server_of_this_home_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert key_for(URL, tmp_path) is None
    with served(tmp_path, URL):
        assert key_for(URL, tmp_path) == access_key(tmp_path)
        assert key_for("http://localhost:4200/api", tmp_path) == access_key(tmp_path)
        for other in (
            "http://127.0.0.1:4201/api",
            "http://elsewhere.example:4200/api",
            "http://127.0.0.1/api",
        ):
            assert key_for(other, tmp_path) is None
    (tmp_path / "served.json").write_text(json.dumps({"api_url": URL}))  # of a process that was killed
    assert key_for(URL, tmp_path) is None
    monkeypatch.setenv(KEY_VARIABLE, "mine:secret")
    assert key_for("http://elsewhere.example/api", tmp_path) == "mine:secret"


def test_two_platforms_do_not_share_a_home(tmp_path: Path) -> None:
    with served(tmp_path, URL), pytest.raises(UserError, match="another `featlas up`"), served(tmp_path, URL):
        pass


class Slow(BaseHTTPRequestHandler):
    """A server that is busy for its first answers, and asks for a key."""

    answers_before = 0

    def do_GET(self) -> None:
        Slow.answers_before += 1
        status = 200 if self.path == "/api/health" and Slow.answers_before > 3 else 503
        if self.path == "/api/admin/version":
            status = 200 if self.headers.get("Authorization") else 401
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_slow_server_is_waited_for_and_one_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", "true")
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(UserError, match="refuses our key"):
            connect_named(f"{address}/api", tmp_path)
        assert Slow.answers_before > 3
        monkeypatch.setenv(KEY_VARIABLE, "mine:secret")
        connect_named(f"{address}/api", tmp_path)
        with pytest.raises(UserError, match="not a ready Prefect server"):
            wait_until_healthy(address, slow_seconds=0.5)
        server.shutdown()
    with pytest.raises(UserError, match="no Prefect server answers"):
        wait_until_healthy(f"http://127.0.0.1:{free_port()}/api", refused_seconds=0.3)
