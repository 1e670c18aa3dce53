"""Run a command that dies with the process that started it: ``python -m flows.attached PID COMMAND...``.

A server, worker or dashboard must not outlive its supervisor, not even one that was killed. The command
also starts with the ordinary handling of SIGINT: a process that a script started with ``&`` inherits
SIGINT as ignored, and a Prefect worker so started cannot be stopped.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def attached_command(command: Sequence[str]) -> list[str]:
    """``command`` as it must be started by this process to die with it."""
    return [sys.executable, "-m", "flows.attached", str(os.getpid()), *command]


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies; exit at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        sys.exit(0)


def main() -> None:
    """Become the command given on the command line, attached to its parent."""
    die_with_parent(int(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
