"""Threads of the numerical libraries that sleep while they wait.

By default a waiting thread of the OpenMP runtimes spins for a while. If other processes need the cores (a
second run, any busy program), spinning threads occupy the cores that the others need. Measured on two cores
(d_in 64, 1,024 latents, 3 million tokens): one training alone took 29.5 s and two at once 190 s each. With
sleeping threads one alone took 29.3 s and two at once 31 s each. The libraries read the settings when they
are loaded, so the settings must be made before.
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
"""Waiting threads sleep, and the number of threads is as requested."""


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the settings to an environment, by default that of this process; the user's own settings stay."""
    for name, value in SETTINGS.items():
        environment.setdefault(name, value)
