"""Settings of the C library's memory allocator that keep memory from fragmenting.

glibc keeps small freed chunks in caches (per thread, and the fast bins) and does not merge them with their
neighbours there. Such a chunk can lie in the hole that a large tensor left and keep the next tensor of that
size from fitting. The holes of a forward pass can then take as much memory as its tensors, and the amount
varies from run to run. Without these caches the memory of a pass is the same in every run and close to the
size of its tensors; numbers and speed do not change.
"""

import os
import platform
import sys
from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
_TUNABLES = {"glibc.malloc.tcache_count": "0", "glibc.malloc.mxfast": "0"}


def steady_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` plus the settings that a process reads when it starts; the user's own settings stay."""
    present = environment.get(VARIABLE, "")
    named = {setting.partition("=")[0] for setting in present.split(":") if setting}
    added = [f"{name}={value}" for name, value in _TUNABLES.items() if name not in named]
    return {**environment, VARIABLE: ":".join([*([present] if present else []), *added])}


def restart_with_steady_allocator() -> None:
    """Restart this process under `steady_allocator` if that changes anything (Linux with glibc).

    The process keeps its number, arguments and open standard streams. Entry points call it before any work.
    """
    environment = steady_allocator(os.environ)
    if platform.libc_ver()[0] == "glibc" and environment != dict(os.environ):
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, sys.orig_argv, environment)
