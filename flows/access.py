"""Access to the Prefect server that featlas starts: a client needs the key of this installation.

The key is a random text in a file that only its owner can read. The server requires it in every request,
commands and workers send it, and a person enters it once in the Prefect UI. A command with
``PREFECT_API_URL`` sends the key to that address only while a `featlas up` of the same home serves it.
"""

import json
import os
import secrets
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from catalog.errors import UserError

KEY_FILE = "api-key"
KEY_VARIABLE = "PREFECT_API_AUTH_STRING"
SERVED_FILE = "served.json"
SERVED_LOCK = "served.lock"


def access_key(home: Path) -> str:
    """The key of the installation whose Prefect home is ``home``: ``featlas:`` and 32 random bytes.

    The first call creates it, in a file with mode 0600.

    Raises:
        UserError: when other users can read the file, or it is empty.
    """
    path = home / KEY_FILE
    if not path.exists():
        _write_key(path)
    if path.stat().st_mode & 0o077:
        raise UserError(f"other users can read the key in {path}: remove the file, featlas creates a new key")
    key = path.read_text(encoding="utf-8").strip()
    if not key.startswith("featlas:") or len(key) < 32:
        raise UserError(f"{path} holds no key of a Prefect server: remove it, featlas creates a new key")
    return key


def _write_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"featlas:{secrets.token_urlsafe(32)}\n")
    try:
        os.link(new, path)  # if two processes start at once, one of them creates the key
    except FileExistsError:
        pass
    finally:
        new.unlink()


def server_settings(key: str, port: int) -> dict[str, str]:
    """The settings of a Prefect server that answers only clients with ``key`` and its own pages.

    The server removes old events and runs from its database, which otherwise only grows.
    """
    return {
        "PREFECT_SERVER_API_AUTH_STRING": key,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    }


def client_settings(key: str) -> dict[str, str]:
    """The settings of a process that uses a server with this ``key``."""
    return {KEY_VARIABLE: key, "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true"}


def authorization(key: str | None) -> dict[str, str]:
    """The header that carries the key; empty without a key."""
    return {"Authorization": "Basic " + b64encode(key.encode()).decode()} if key else {}


@contextmanager
def served(home: Path, api_url: str) -> Iterator[None]:
    """Record, inside this context, that the server at ``api_url`` belongs to this home.

    Raises:
        UserError: when another `featlas up` uses this home, because the two would share one database.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(home / SERVED_LOCK)
    try:
        lock.acquire(timeout=2)
    except Timeout:
        raise UserError(
            f"another `featlas up` runs with the Prefect home {home}: stop it, or set FEATLAS_STATE to "
            "another folder"
        ) from None
    with lock:
        path = home / SERVED_FILE
        path.write_text(json.dumps({"api_url": api_url}), encoding="utf-8")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def key_for(api_url: str, home: Path) -> str | None:
    """The key to send to the server at ``api_url``.

    It is ``PREFECT_API_AUTH_STRING`` if that is set. Otherwise it is the key of this installation if a
    `featlas up` of this home serves the address now, else None.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return given
    try:
        known = json.loads((home / SERVED_FILE).read_text(encoding="utf-8"))["api_url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if _address(known) != _address(api_url) or not _is_held(home / SERVED_LOCK):
        return None
    return access_key(home)


def _address(api_url: str) -> tuple[str, int | None]:
    parts = urlsplit(api_url)
    name = parts.hostname or ""
    return ("127.0.0.1" if name == "localhost" else name), parts.port


def _is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
