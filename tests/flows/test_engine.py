"""Which server a run talks to, and what its processes are told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.errors import UserError
from flows.engine import (
    connect_engine,
    free_port,
    is_healthy,
    port_is_free,
    prefect_environment,
    private_temporary,
)
from tasks.common.paths import state_folder


def test_a_named_server_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    api_url = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", api_url)
    with pytest.raises(UserError, match="no Prefect server answers"):
        connect_engine()


def test_an_own_home_hides_the_profiles_of_the_user(tmp_path: Path) -> None:
    settings = prefect_environment("http://127.0.0.1:1/api", home=tmp_path)
    assert settings["PREFECT_PROFILES_PATH"] == str(tmp_path / "profiles.toml")
    assert settings["PREFECT_HOME"] == str(tmp_path)
    assert settings["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert settings["DO_NOT_TRACK"] == "1"
    assert settings["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_a_server_in_a_profile_is_not_used(tmp_path: Path) -> None:
    """A foreign profile points to a server that answers nothing; the run must not use it."""
    home = tmp_path / "own"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "profiles.toml").write_text(
        'active = "work"\n[profiles.work]\nPREFECT_API_URL = "http://192.0.2.1:4200/api"\n'
    )
    code = (
        "import sys; from pathlib import Path; from flows.engine import connect_engine\n"
        "url = connect_engine(Path(sys.argv[1]))\n"
        "from prefect.settings import get_current_settings\n"
        "assert str(get_current_settings().api.url) == url, get_current_settings().api.url\n"
        "print(url)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(foreign)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)], env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr[-3000:]
    api_url = done.stdout.strip()
    assert api_url.startswith("http://127.0.0.1:")
    assert not is_healthy(api_url), "the own server outlived its run"


def test_state_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEATLAS_STATE", str(tmp_path / "state"))
    assert state_folder() == tmp_path / "state"
    monkeypatch.delenv("FEATLAS_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "featlas"


def test_temporary_files_are_private_and_their_paths_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for home in (tmp_path / "home", tmp_path / ("deep" * 30)):
        folder = private_temporary(home)
        assert folder == private_temporary(home)
        assert folder.stat().st_mode & 0o077 == 0
        folder.rmdir()
        folder.symlink_to(tmp_path)
        with pytest.raises(UserError, match="belongs to another user"):
            private_temporary(home)


def test_a_free_port_is_free() -> None:
    assert port_is_free(free_port())
