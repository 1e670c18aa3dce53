"""The allocator's settings are added once, and a process that asks for them runs with them."""

import os
import subprocess
import sys

from tasks.common.allocator import VARIABLE, steady_allocator

EXPECTED = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"


def test_settings_of_the_user_stay() -> None:
    assert steady_allocator({"A": "b"}) == {"A": "b", VARIABLE: EXPECTED}
    own = {VARIABLE: "glibc.malloc.mxfast=64"}
    assert steady_allocator(own)[VARIABLE] == "glibc.malloc.mxfast=64:glibc.malloc.tcache_count=0"


def test_adding_twice_changes_nothing() -> None:
    once = steady_allocator({})
    assert steady_allocator(once) == once


def test_process_is_started_anew_once_with_its_arguments() -> None:
    program = (
        "import os, sys; from tasks.common.allocator import restart_with_steady_allocator as restart; "
        "print(os.getpid(), flush=True); restart(); print(os.environ.get('GLIBC_TUNABLES'), sys.argv[1:])"
    )
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    result = subprocess.run(
        [sys.executable, "-c", program, "x y"], env=environment, capture_output=True, text=True, check=True
    )
    *pids, last = result.stdout.splitlines()
    assert len(set(pids)) == 1
    if len(pids) == 2:  # glibc
        assert last == f"{EXPECTED} ['x y']"
