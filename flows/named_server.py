"""The Prefect server that the user names: whether it answers and accepts our key.

This module imports nothing of Prefect at the top, because Prefect reads its settings once, at import.
"""

import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException, RemoteDisconnected
from pathlib import Path

import stamina

from catalog.errors import UserError
from flows.access import authorization, client_settings, key_for

REFUSED_SECONDS = 5.0
SLOW_SECONDS = 60.0


def connect_named(api_url: str, home: Path) -> None:
    """Make sure that the server at ``PREFECT_API_URL`` answers and accepts our key; set the environment.

    ``home`` is the Prefect home of featlas; its key is sent if its `featlas up` serves the address. All other
    settings of that server belong to the user.

    Raises:
        UserError: when the server does not answer, or refuses the key.
    """
    wait_until_healthy(api_url)
    key = key_for(api_url, home)
    if key is not None:
        os.environ.update(client_settings(key))
    if not lets_in(api_url, key or _key_of_profile()):
        raise UserError(
            f"the Prefect server at {api_url} refuses our key: set PREFECT_API_AUTH_STRING to its key, or "
            "run as the user, and with the FEATLAS_STATE, of its `featlas up`"
        )


def _key_of_profile() -> str | None:
    """The key in the user's active Prefect profile, which may name server and key."""
    from prefect.settings import get_current_settings

    key = get_current_settings().api.auth_string
    return key.get_secret_value() if key is not None else None


def lets_in(api_url: str, key: str | None) -> bool:
    """Whether the server at ``api_url`` accepts ``key``, or requires none."""
    request = urllib.request.Request(f"{api_url}/admin/version", headers=authorization(key))
    try:
        with urllib.request.urlopen(request, timeout=SLOW_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code not in (401, 403)
    except (urllib.error.URLError, OSError, ValueError):
        return True  # a slow answer is no refusal


def wait_until_healthy(
    api_url: str, refused_seconds: float = REFUSED_SECONDS, slow_seconds: float = SLOW_SECONDS
) -> None:
    """Query a server until it answers; wait longer for a slow one than for an address without listener.

    Raises:
        UserError: when nothing listens for ``refused_seconds``, nothing answers for ``slow_seconds``, or
            the answer is not from a Prefect server.
    """
    started = time.monotonic()

    def is_worth_a_retry(error: Exception) -> bool:
        if isinstance(error, urllib.error.HTTPError):
            return error.code >= 500
        waited = time.monotonic() - started
        return isinstance(error, OSError) and (_is_slow(error) or waited < refused_seconds)

    tries = stamina.retry_context(
        on=is_worth_a_retry, attempts=None, timeout=slow_seconds, wait_initial=0.2, wait_max=2.0
    )
    try:
        for attempt in tries:
            with attempt, urllib.request.urlopen(f"{api_url}/health", timeout=10):
                pass
    except urllib.error.HTTPError as error:
        raise UserError(
            f"what answers at {api_url} (PREFECT_API_URL) is not a ready Prefect server ({error}): such an "
            "address ends in /api, as in http://127.0.0.1:4200/api"
        ) from None
    except (OSError, ValueError, HTTPException) as error:
        waited = time.monotonic() - started
        slow = f"answers within {waited:.0f} s" if _is_slow(error) else "answers"
        raise UserError(
            f"no Prefect server {slow} at {api_url} (PREFECT_API_URL): start it with `featlas up`, or unset "
            "PREFECT_API_URL to let `featlas run` start its own"
        ) from None


def _is_slow(error: Exception) -> bool:
    """Whether a server listens but is slow or broke the connection; False if nothing listens."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, TimeoutError | ConnectionResetError | RemoteDisconnected)
