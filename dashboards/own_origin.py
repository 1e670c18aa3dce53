"""A web service of one machine answers only under its own names and to its own pages.

A page of any other site can send requests to a port of this machine. A name that its owner points to this
machine (DNS rebinding) makes them look like requests of the same site. Every request must therefore carry a
``Host`` of this service, and an ``Origin``, if the browser sends one, that is the same. Programs send no
``Origin``. The check covers HTTP and websockets.
"""

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from dashboards.headers import AsgiApp, Receive, Scope, Send

NAMES_VARIABLE = "FEATLAS_HOST_NAMES"
WRONG_HOST = 421
WRONG_ORIGIN = 403
POLICY_VIOLATION = 1008


class OwnOrigin:
    """ASGI middleware that refuses foreign ``Host`` and ``Origin`` headers.

    Own names are the address at which the connection arrived, ``localhost`` if that is the loopback, and the
    names in ``FEATLAS_HOST_NAMES`` (comma separated), under which a proxy serves this machine.
    """

    def __init__(self, app: AsgiApp, names: frozenset[str] | None = None) -> None:
        self._app = app
        self._names = configured_names(os.environ) if names is None else names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an own request on; answer a foreign one with 421 or 403, or close its websocket."""
        if scope["type"] in ("http", "websocket"):
            refusal = self._refusal(scope)
            if refusal is not None:
                await _refuse(scope, send, *refusal)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._is_own(_host_name(hosts[0]), scope):
            return WRONG_HOST, (
                "this service does not answer to the name in the Host header; add further names "
                f"to {NAMES_VARIABLE}"
            )
        for origin in (value for name, value in headers if name == b"origin"):
            page = urlsplit(origin)
            if page.netloc.lower() != hosts[0].lower() and (page.hostname or "") not in self._names:
                return WRONG_ORIGIN, "this service does not answer pages of another origin"
        return None

    def _is_own(self, name: str, scope: Scope) -> bool:
        arrived_at = str((scope.get("server") or ("",))[0])
        if _is_loopback(arrived_at) and (name == "localhost" or _is_loopback(name)):
            return True
        return bool(name) and (name == arrived_at or name in self._names)


def configured_names(environment: Mapping[str, str]) -> frozenset[str]:
    """The names in ``FEATLAS_HOST_NAMES``, in lower case."""
    listed = environment.get(NAMES_VARIABLE, "").lower().split(",")
    return frozenset(name.strip() for name in listed) - {""}


def _host_name(host: str) -> str:
    """The name in a Host header without its port; empty if it is not a host name."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    plain = parts.netloc == host and "@" not in host
    return (parts.hostname or "") if plain else ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
        return
    body = f"{reason}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
