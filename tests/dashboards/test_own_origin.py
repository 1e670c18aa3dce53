"""Requests that a service answers: its own names, its own pages, and programs."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from dashboards.own_origin import OwnOrigin, configured_names

LOOPBACK = "127.0.0.1"


def outcome(host: str | None, origin: str | None = None, *, kind: str = "http", at: str = LOOPBACK) -> Any:
    """200 where the request reaches the application, else the status or close code of the refusal."""
    sent: list[MutableMapping[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def keep(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": f"{kind}.receive"}

    headers = [
        (name, value.encode()) for name, value in ((b"host", host), (b"origin", origin)) if value is not None
    ]
    scope = {"type": kind, "headers": headers, "server": (at, 4200)}
    asyncio.run(OwnOrigin(application, frozenset({"atlas.example"}))(scope, receive, keep))
    return sent[0].get("status") or sent[0].get("code")


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:4200", None),
        ("localhost:4200", "http://localhost:4200"),
        ("localhost:9999", "http://localhost:9999"),  # a tunnel from another port
        ("[::1]:4200", "http://[::1]:4200"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("atlas.example", "https://atlas.example"),  # a proxy that keeps the name
        ("127.0.0.1:4200", "https://atlas.example"),  # and one that does not
    ],
)
def test_own_requests_pass(host: str, origin: str | None) -> None:
    assert outcome(host, origin) == 200


@pytest.mark.parametrize(
    "host", [None, "", "evil.example:4200", "10.0.0.7", "127.0.0.1@evil.example", "a:b:c", "127.0.0.1/x"]
)
def test_a_foreign_host_is_refused(host: str | None) -> None:
    assert outcome(host) == 421
    assert outcome(host, kind="websocket") == 1008


@pytest.mark.parametrize(
    "origin",
    ["null", "http://127.0.0.1:4201", "http://localhost:4200", "https://evil.example", "", "file://"],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    assert outcome("127.0.0.1:4200", origin) == 403
    assert outcome("127.0.0.1:4200", origin, kind="websocket") == 1008


def test_an_address_of_a_network_is_a_name_where_the_service_listens_on_it() -> None:
    assert outcome("10.0.0.7:8501", "http://10.0.0.7:8501", at="10.0.0.7") == 200
    assert outcome("localhost:8501", at="10.0.0.7") == 421
    assert outcome("10.0.0.8:8501", at="10.0.0.7") == 421


def test_two_hosts_are_refused() -> None:
    sent: list[Any] = []

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "headers": [(b"host", b"127.0.0.1"), (b"Host", b"evil")],
        "server": (LOOPBACK, 1),
    }
    asyncio.run(OwnOrigin(None, frozenset())(scope, None, keep))  # type: ignore[arg-type]
    assert sent[0]["status"] == 421


def test_names_come_from_the_environment() -> None:
    assert configured_names({"FEATLAS_HOST_NAMES": "Atlas.example, b ,"}) == {"atlas.example", "b"}
    assert configured_names({}) == frozenset()
