"""The memory allocator of the C library, kept from losing track of large freed tensors.

glibc keeps small freed chunks in caches (per thread, and the fast bins) where they are never merged with
their neighbours. A chunk the size of a tensor's header, cut from a hole that a large tensor left and then
cached, keeps the next tensor of that size from fitting: a forward pass ends up with holes that take as
much as its tensors, by chance more or less from run to run. Without the caches the memory of a pass is
the same in every run and close to what its tensors take; numbers and speed stay as they are.
"""

import os
import platform
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
_TUNABLES = {"glibc.malloc.tcache_count": "0", "glibc.malloc.mxfast": "0"}


def steady_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` with the settings added that a process reads when it starts; a user's own stay."""
    present = environment.get(VARIABLE, "")
    named = {setting.partition("=")[0] for setting in present.split(":") if setting}
    added = [f"{name}={value}" for name, value in _TUNABLES.items() if name not in named]
    return {**environment, VARIABLE: ":".join([*([present] if present else []), *added])}


def restart_with_steady_allocator() -> None:
    """Start this process anew under `steady_allocator` where that changes anything (Linux with glibc).

    The process keeps its number, arguments and open standard streams. For entry points, before any work.
    """
    environment = steady_allocator(os.environ)
    if platform.libc_ver()[0] == "glibc" and environment != dict(os.environ):
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, sys.orig_argv, environment)
