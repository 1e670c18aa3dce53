"""Waiting threads sleep in every process that computes, however it was started."""

import os
import subprocess
import sys

import pytest

from tasks.common.threads import SETTINGS, sleep_while_waiting

READ = (
    "import sys, os; before = 'torch' in sys.modules; {statement}\n"
    "import torch; assert not before; print(*[os.environ[name] for name in sorted({names})])"
)


def settings_after(statement: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS} | variables
    code = READ.format(statement=statement, names=list(SETTINGS))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.parametrize("module", ["tasks.training.child", "flows.nightly", "flows.import_dictionary"])
def test_every_process_that_computes_has_threads_that_sleep(module: str) -> None:
    """A training child, a flow run of a worker, a command: none depends on who started it."""
    assert settings_after(f"import {module}") == [SETTINGS[name] for name in sorted(SETTINGS)]


def test_settings_are_made_before_torch_is_loaded() -> None:
    code = (
        "import sys, os\n"
        "class Look:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print(os.environ.get('OMP_WAIT_POLICY'))\n"
        "sys.meta_path.insert(0, Look())\n"
        "import tasks.training.child"
    )
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["PASSIVE"]


def test_settings_of_the_user_stay() -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    sleep_while_waiting(environment)
    assert environment == {**SETTINGS, "OMP_WAIT_POLICY": "ACTIVE"}
