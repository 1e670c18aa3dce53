"""Which database the platform uses, and the PostgreSQL cluster that it makes for itself."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from catalog.errors import UserError
from flows import database
from flows.attached import attached_command
from flows.database import Cluster, choose_database, database_settings, find_binaries, make_cluster

PATH = {"PATH": os.environ["PATH"]}
NOWHERE = {"PATH": "/nowhere", database.BINARIES_VARIABLE: "/nowhere"}


@pytest.fixture
def home() -> Iterator[Path]:
    """A Prefect home that another user can pass through, as root's cluster needs it."""
    folder = Path(tempfile.mkdtemp(prefix="featlas-db-"))
    folder.chmod(0o755)
    yield folder / "prefect"
    shutil.rmtree(folder)


def test_a_database_of_the_user_is_left_alone(home: Path) -> None:
    for variable in database.URL_VARIABLES:
        assert choose_database(home, PATH | {variable: "postgresql+asyncpg://elsewhere/prefect"})[0] is None
    assert database_settings(None).keys().isdisjoint(database.URL_VARIABLES)


def test_without_postgresql_it_is_sqlite_with_few_writes(home: Path) -> None:
    cluster, why = choose_database(home, NOWHERE)
    assert cluster is None
    assert "install PostgreSQL" in why
    settings = database_settings(cluster)
    assert int(settings["PREFECT_SERVER_DATABASE_TIMEOUT"]) > 10


def test_a_cluster_without_its_programs_is_an_error(home: Path) -> None:
    chosen, _ = choose_database(home, PATH)
    assert chosen is not None
    chosen.folder.mkdir(parents=True)
    (chosen.folder / "PG_VERSION").write_text("9\n")
    with pytest.raises(UserError, match="needs PostgreSQL 9"):
        choose_database(home, PATH)


def test_the_history_of_an_earlier_platform_is_kept(home: Path) -> None:
    home.mkdir()
    with sqlite3.connect(home / "prefect.db") as connection:
        connection.execute("create table deployment (id text)")
    connection.close()
    assert choose_database(home, PATH)[0] is not None, "a single run leaves no deployment"
    with sqlite3.connect(home / "prefect.db") as connection:
        connection.execute("insert into deployment values ('a')")
    connection.close()
    cluster, why = choose_database(home, PATH)
    assert cluster is None
    assert "move" in why


def test_root_without_the_system_user_uses_sqlite(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(database, "SYSTEM_USER", "nobody-has-this-name")
    cluster, why = choose_database(home, PATH)
    assert cluster is None
    assert "does not run as root" in why


def test_a_long_path_has_its_socket_elsewhere(home: Path) -> None:
    cluster, _ = choose_database(home / ("x" * 90), PATH)
    assert cluster is not None
    assert len(str(cluster.sockets)) < database.LONGEST_SOCKET_FOLDER


def test_the_programs_of_a_version_are_found() -> None:
    binaries = find_binaries(PATH)
    assert binaries is not None, "infra/install_postgres.sh installs it"
    version = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True)
    assert find_binaries(PATH, version.stdout.split()[2].partition(".")[0]) == binaries
    assert find_binaries(PATH, "9") is None


@pytest.fixture
def running(home: Path) -> Iterator[tuple[Cluster, psutil.Process]]:
    cluster, why = choose_database(home, PATH)
    assert cluster is not None, why
    make_cluster(cluster)
    process = subprocess.Popen(attached_command(cluster.command()), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not cluster.is_ready():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield cluster, psutil.Process(process.pid)
    process.terminate()
    process.wait(30)


def test_the_cluster_is_private_and_not_of_root(running: tuple[Cluster, psutil.Process]) -> None:
    cluster, process = running
    assert process.uids().real != 0
    assert [one for one in process.net_connections() if one.status == psutil.CONN_LISTEN] == []
    assert cluster.sockets.stat().st_mode & 0o077 == cluster.folder.stat().st_mode & 0o077 == 0
    assert cluster.password.stat().st_mode & 0o077 == 0
    assert cluster.password.stat().st_uid == os.getuid()
    assert cluster.password.read_text().strip() in cluster.url()


def test_the_password_is_asked_for_and_the_data_stays(running: tuple[Cluster, psutil.Process]) -> None:
    cluster, _ = running
    address = {"host": str(cluster.sockets), "port": database.PORT, "user": database.DATABASE_USER}

    async def talk(password: str) -> int:
        connection = await asyncpg.connect(**address, password=password, database="postgres")
        try:
            await connection.execute("create extension if not exists pg_trgm")
            return int(await connection.fetchval("select 7"))
        finally:
            await connection.close()

    assert asyncio.run(talk(cluster.password.read_text().strip())) == 7
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(talk("guessed"))
    before = (cluster.folder / "PG_VERSION").stat().st_mtime
    make_cluster(cluster)
    assert (cluster.folder / "PG_VERSION").stat().st_mtime == before
