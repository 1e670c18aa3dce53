"""Run a command that dies with the process that started it: ``python -m flows.attached PID COMMAND...``.

A server, worker or dashboard must not outlive its supervisor, even if the supervisor is killed. The command
also starts with the default handling of SIGINT: a process that a script starts with ``&`` inherits SIGINT
as ignored, and nobody could stop a Prefect worker that was started like that.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def attached_command(command: Sequence[str]) -> list[str]:
    """``command`` as this process must start it so that it dies with this process."""
    return [sys.executable, "-m", "flows.attached", str(os.getpid()), *command]


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies; exit now if it is already dead."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        sys.exit(0)


def main() -> None:
    """Replace this process with the command on the command line, attached to its parent."""
    die_with_parent(int(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
