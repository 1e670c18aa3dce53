"""Threads of the numerical libraries that sleep while they wait.

The OpenMP runtimes let a thread that waits for the others spin for a while. Where other processes want the
cores (a second run, any busy program), the spinning threads take the very cores that the others need.
Measured on two cores (d_in 64, 1,024 latents, 3 million tokens): one training alone took 29.5 s and two at
once 190 s each; with threads that sleep one alone took 29.3 s and two at once 31 s each. The settings are
read when the libraries are loaded, so they are made before.
"""

import os
from collections.abc import MutableMapping

SETTINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE",
}
"""Waiting threads sleep, and the number of threads is as asked for."""


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the settings to an environment, by default that of this process; a user's own stay."""
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
