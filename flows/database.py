"""The database of `featlas up`: its own PostgreSQL cluster if PostgreSQL is installed, else SQLite.

SQLite has one writer, and a busy platform writes all the time: the server answered some requests for runs
with 503. The cluster lies in the Prefect home, listens only on a unix socket, and requires a password from a
file of its owner. PostgreSQL does not run as root: a platform of root runs it as the user ``postgres``.
"""

import os
import pwd
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from catalog.errors import UserError
from catalog.ids import digest

URL_VARIABLES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
BINARIES_VARIABLE = "FEATLAS_POSTGRES_BIN"
INSTALLED_IN = ("/usr/lib/postgresql", "/usr/pgsql-*", "/opt/homebrew/opt/postgresql@*", "/usr/local/pgsql")
NEEDED = ("initdb", "postgres", "pg_isready")
SYSTEM_USER = "postgres"
DATABASE_USER = "featlas"
FOLDER_FOR_ROOT = Path("/var/lib/featlas")
PORT = 5432  # only a part of the socket's name
LONGEST_SOCKET_FOLDER = 80
# Little memory, and no wait for the disk at each commit: the catalogue records what is done.
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "log_min_messages": "warning",
}


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL cluster: its programs, its folder, its password, and its system user."""

    binaries: Path
    folder: Path
    password: Path
    """The file of the password; only the user who runs featlas can read it."""
    sockets: Path
    """The folder of its socket."""
    user: str | None
    """The system user that runs it; None for the user who runs featlas."""

    def command(self) -> list[str]:
        """The command line that serves it until SIGTERM."""
        options = OPTIONS | {"unix_socket_directories": str(self.sockets), "port": str(PORT)}
        served = [str(self.binaries / "postgres"), "-D", str(self.folder)]
        served += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [*as_user(self.user), *served]

    def url(self) -> str:
        """The URL with the password with which Prefect connects; only the server's environment has it."""
        password = quote(self.password.read_text(encoding="utf-8").strip(), safe="")
        host = quote(str(self.sockets), safe="")
        return f"postgresql+asyncpg://{DATABASE_USER}:{password}@/postgres?host={host}&port={PORT}"

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        asked = [str(self.binaries / "pg_isready"), "-q", "-h", str(self.sockets), "-p", str(PORT)]
        return subprocess.run(asked, check=False).returncode == 0


def choose_database(home: Path, environment: Mapping[str, str]) -> tuple[Cluster | None, str]:
    """The cluster to start, or None for the database that Prefect's settings; and the reason, as a clause.

    Raises:
        UserError: when a PostgreSQL version that is no longer installed created the cluster in ``home``.
    """
    if any(environment.get(name) for name in URL_VARIABLES):
        return None, "the database of your PREFECT_SERVER_DATABASE_CONNECTION_URL"
    user = None if os.geteuid() else SYSTEM_USER
    folder = home / "postgres" if user is None else _folder_for(user, home)
    made_by = folder / "PG_VERSION"
    version = made_by.read_text(encoding="utf-8").strip() if made_by.is_file() else None
    binaries = find_binaries(environment, version)
    if binaries is None and version is not None:
        raise UserError(
            f"{folder} needs PostgreSQL {version}, which is missing: install it, name its programs with "
            f"{BINARIES_VARIABLE}, or remove the folder (the history of runs is lost, results stay)"
        )
    if binaries is None:
        return None, "SQLite, which is slow under load: install PostgreSQL for more than a few runs at once"
    if version is None and _holds_deployments(home / "prefect.db"):
        return None, f"SQLite, which holds the history: move {home / 'prefect.db'} away to use PostgreSQL"
    if user is not None and (not _exists(user) or shutil.which("setpriv") is None):
        return None, f"SQLite: PostgreSQL does not run as root, and there is no user {user!r} or no setpriv"
    password = home / "postgres-password"
    return Cluster(binaries, folder, password, _socket_folder(folder), user), f"PostgreSQL in {folder}"


def find_binaries(environment: Mapping[str, str], version: str | None = None) -> Path | None:
    """The folder of PostgreSQL's server programs, of one major version if given; None if there is none."""
    named = environment.get(BINARIES_VARIABLE)
    on_path = shutil.which("postgres", path=environment.get("PATH"))
    places = [Path(named)] if named else [Path(on_path).resolve().parent] if on_path else []
    if not named:
        for pattern in INSTALLED_IN:
            parent = Path(pattern)
            found = [*parent.parent.glob(f"{parent.name}/bin"), *parent.parent.glob(f"{parent.name}/*/bin")]
            places += sorted(found, key=lambda place: _major(place) or 0, reverse=True)
    for place in places:
        whole = all(os.access(place / name, os.X_OK) for name in NEEDED) and _has_trigrams(place)
        if whole and (version is None or str(_major(place)) == version):
            return place
    return None


def _has_trigrams(place: Path) -> bool:
    """Whether pg_trgm is installed, which Prefect's tables need; True if it cannot be determined."""
    try:
        said = subprocess.run([place / "pg_config", "--sharedir"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return True
    return (Path(said.stdout.strip()) / "extension" / "pg_trgm.control").is_file()


def _major(place: Path) -> int | None:
    """The major version of the programs in a folder."""
    try:
        said = subprocess.run([place / "postgres", "--version"], capture_output=True, text=True, check=True)
        return int(said.stdout.split()[2].partition(".")[0])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return None


def _holds_deployments(path: Path) -> bool:
    """Whether this is the SQLite database of an earlier `featlas up`; a single run leaves no deployments."""
    if not path.is_file():
        return False
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        with connection:
            found = connection.execute("select count(*) from deployment").fetchone()
        connection.close()
    except sqlite3.Error:
        return False
    return bool(found[0])


def as_user(user: str | None) -> list[str]:
    """The prefix of a command that runs it as this user and makes it die with its parent."""
    setpriv = shutil.which("setpriv")
    if user is None or setpriv is None:
        return []
    return [setpriv, "--reuid", user, "--regid", user, "--init-groups", "--pdeathsig", "TERM", "--"]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _folder_for(user: str, home: Path) -> Path:
    """Where a cluster of that user lies: in ``home`` if the user can reach it, else under /var/lib."""
    inside = home / "postgres"
    if all(folder.stat().st_mode & 0o001 for folder in home.parents if folder.is_dir()):
        return inside
    return FOLDER_FOR_ROOT / f"postgres-{digest(str(home))[:8]}"


def _socket_folder(folder: Path) -> Path:
    """A folder for the socket, whose path may have at most 107 characters."""
    beside = folder.with_name(f"{folder.name}-socket")
    if len(str(beside)) <= LONGEST_SOCKET_FOLDER:
        return beside
    return Path(tempfile.gettempdir()) / f"featlas-postgres-{secrets.token_hex(8)}"


def make_cluster(cluster: Cluster) -> None:
    """Create the folder of the socket, and the cluster itself if it does not exist yet.

    Raises:
        UserError: when `initdb` fails, with its last line.
    """
    _private_folder(cluster.sockets, cluster.user)
    if (cluster.folder / "PG_VERSION").is_file():
        return
    shutil.rmtree(cluster.folder, ignore_errors=True)  # left by an interrupted initdb
    _private_folder(cluster.folder, cluster.user)
    with os.fdopen(os.open(cluster.password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    handed = cluster.sockets / "first-password"
    shutil.copyfile(cluster.password, handed)
    _private(handed, 0o600, cluster.user)
    made = subprocess.run(
        [
            *as_user(cluster.user),
            *(str(cluster.binaries / "initdb"), "-D", str(cluster.folder), "-U", DATABASE_USER),
            *("--pwfile", str(handed), "--auth", "scram-sha-256", "-E", "UTF8", "--locale", "C"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    handed.unlink()
    if made.returncode:
        shutil.rmtree(cluster.folder, ignore_errors=True)
        last = (made.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"PostgreSQL could not create its cluster in {cluster.folder}: {last}")


def _private_folder(folder: Path, user: str | None) -> None:
    """Create a folder for that user only; others may pass through its parents but not list them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is not None:
        folder.parent.chmod(folder.parent.stat().st_mode | 0o001)
    _private(folder, 0o700, user)


def _private(path: Path, mode: int, user: str | None) -> None:
    path.chmod(mode)
    if user is not None:
        shutil.chown(path, user, user)


def database_settings(cluster: Cluster | None) -> dict[str, str]:
    """The settings with which the server uses the cluster.

    Without a cluster they reduce the load on SQLite: the server writes to it less often, and a writer waits
    for its turn. The setting of another database overrides them.
    """
    if cluster is not None:
        return {URL_VARIABLES[0]: cluster.url()}
    return {
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "10",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    }
