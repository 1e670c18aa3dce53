"""Threads of the numerical libraries that sleep while they wait.

The OpenMP runtimes let a thread that waits for the others spin for a while. Where other processes want the
cores (a second run, any busy program), the spinning threads take the very cores that the others need: two
trainings on two cores were six times as slow as one after the other. Threads that sleep cost one training
alone less than one percent. The settings are read when the libraries are loaded, so they are made before.
"""

import os
from collections.abc import MutableMapping

SETTINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE",
    "MKL_CBWR": "AUTO,STRICT",
}
"""Waiting threads sleep; the number of threads is as asked for, and a sum is added in one order."""


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the settings to an environment, by default that of this process; a user's own stay."""
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
