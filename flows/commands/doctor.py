"""``featlas doctor``: what works on this machine, and how to fix the rest."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from catalog.errors import UserError
from catalog.settings import catalogue_root
from catalog.version import code_version
from flows.engine import prefect_home
from flows.named_server import connect_named
from tasks.common.paths import state_folder

PACKAGES = ("torch", "transformers", "prefect", "duckdb", "deltalake", "pyarrow", "streamlit", "openai")
LOW_DISK_BYTES = 5 * 10**9
LOW_MEMORY_BYTES = 4 * 10**9


class Finding(NamedTuple):
    """One line of the report; ``works`` is None for an optional part that is absent."""

    works: bool | None
    what: str
    detail: str


def doctor_command(catalogue: str | None) -> int:
    """Print one line per check; return 0 unless something does not work."""
    marks = {True: "ok", False: "FAILS", None: "-"}
    failed = False
    for finding in _findings(catalogue):
        failed = failed or finding.works is False
        print(f"{marks[finding.works]:<6}{finding.what:<12}{finding.detail}")
    return 1 if failed else 0


def _findings(catalogue: str | None) -> Iterator[Finding]:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    yield Finding(True, "featlas", f"{code_version()} on Python {platform.python_version()}, {sys.platform}")
    yield Finding(True, "packages", packages)
    checks: tuple[Callable[[str | None], Iterator[Finding]], ...] = (
        _check_memory,
        _check_devices,
        _check_kernels,
        _check_catalogue,
        _check_state,
        _check_server,
        _check_endpoints,
    )
    for check in checks:
        yield from check(catalogue)


def _check_memory(_: str | None) -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available
    works = free >= LOW_MEMORY_BYTES
    advice = "" if works else ": close other programs, or lower dictionaries.*.buffer_tokens"
    yield Finding(works, "memory", f"{free / 1e9:.1f} GB free, {os.cpu_count()} cores{advice}")


def _check_devices(_: str | None) -> Iterator[Finding]:
    import torch

    if not torch.cuda.is_available():
        yield Finding(None, "gpu", "none; everything runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(True, "gpu", f"{name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free")


def _check_kernels(_: str | None) -> Iterator[Finding]:
    from tasks.dictionaries.kernels.native import describe

    compiled, detail = describe()
    yield Finding(True if compiled else None, "kernels", detail if compiled else f"plain torch; {detail}")


def _check_catalogue(catalogue: str | None) -> Iterator[Finding]:
    try:
        root = catalogue_root(catalogue)
    except UserError as error:
        yield Finding(False, "catalogue", str(error))
        return
    yield _writable("catalogue", root)
    free = shutil.disk_usage(_existing(root)).free
    works = free >= LOW_DISK_BYTES
    advice = "" if works else ": free some; activations take most of the space"
    yield Finding(works, "disk", f"{free / 1e9:.1f} GB free{advice}")


def _check_state(_: str | None) -> Iterator[Finding]:
    yield _writable("state", state_folder())


def _check_server(_: str | None) -> Iterator[Finding]:
    api_url = os.environ.get("PREFECT_API_URL")
    if api_url is None:
        yield Finding(None, "prefect", "PREFECT_API_URL is not set: `featlas run` starts its own server")
        return
    try:
        connect_named(api_url, prefect_home())
    except UserError as error:
        yield Finding(False, "prefect", str(error))
    else:
        yield Finding(True, "prefect", f"answers at {api_url}")


def _check_endpoints(_: str | None) -> Iterator[Finding]:
    from tasks.autointerp.endpoint import endpoint_names, load_api_key, load_endpoint

    names = endpoint_names(os.environ)
    if not names:
        yield Finding(None, "llm", "no endpoint profile: lexical labels need none; others go in featlas.toml")
    for name in names:
        try:
            profile = load_endpoint(name, os.environ)
            load_api_key(profile, os.environ)
        except UserError as error:
            yield Finding(False, "llm", str(error))
            continue
        yield Finding(True, "llm", f"{name}: {profile.model} at {profile.base_url}, key present")


def _writable(what: str, folder: Path) -> Finding:
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(False, what, f"{folder} cannot be written ({error.strerror}): choose another folder")
    return Finding(True, what, f"{folder} can be written")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
