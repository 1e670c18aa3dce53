"""Fault points: a test can stop the process here like a power cut, a full disk or a kill.

``FEATLAS_FAULT="point[:n][:action]"`` triggers at the n-th visit (default 1) of a named point. Actions:
``kill`` (SIGKILL, the default), ``raise``, and the name of a system error such as ``enospc`` (disk full),
``erofs`` (read-only disk) or ``eio``. Without the variable a visit costs one dictionary lookup.
"""

import errno
import os
import signal
from collections import Counter

ENVIRONMENT = "FEATLAS_FAULT"
_visits: Counter[str] = Counter()


class InjectedFault(RuntimeError):
    """Raised by the action ``raise``; production code never catches it."""


def fault_point(name: str) -> None:
    """Trigger the action if ``FEATLAS_FAULT`` names this point and this visit."""
    setting = os.environ.get(ENVIRONMENT)
    if setting is None:
        return
    point, nth, action = _parse(setting)
    if point != name:
        return
    _visits[name] += 1
    if _visits[name] != nth:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if hasattr(errno, action.upper()):
        number = getattr(errno, action.upper())
        raise OSError(number, os.strerror(number), name)
    raise InjectedFault(f"injected at {name}, visit {nth}")


def _parse(setting: str) -> tuple[str, int, str]:
    point, *rest = setting.split(":")
    nth = next((int(part) for part in rest if part.isdigit()), 1)
    action = next((part for part in rest if not part.isdigit()), "kill")
    return point, nth, action
