"""Rules for the addresses of endpoints: which are this machine, and which are allowed.

Only the address decides: no name is resolved, because the answer of a name server may change between the
check and the request.
"""

import ipaddress
import re
from urllib.parse import urlsplit

_ODD = re.compile(r"[\x00-\x20\x7f\\]")


def is_loopback(url: str) -> bool:
    """Whether requests to ``url`` stay on this machine: ``localhost`` or a loopback address in usual form.

    A private network, ``.local`` and a name without a dot are other machines, and a number such as
    ``134744072`` is an address even if it does not look like one.
    """
    host = _host(url)
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or bool(mapped and mapped.is_loopback)


def address_fault(url: str) -> str | None:
    """The fault of an endpoint's address, as a clause; None if it is allowed."""
    host = _host(url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"is not an address ({error}): write http(s)://host/path"
    if _ODD.search(url) or parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        return "must be http(s)://host/path without a user name or password"
    if parts.scheme == "http" and not is_loopback(url):
        return f"sends text and key unencrypted to {host}: use https for every machine except this one"
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
