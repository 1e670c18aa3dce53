"""What all tests share: the order of the files, one thread for each worker, and how properties are tried.

pytest-xdist starts the files with most tests first, but here a file with five tests can take minutes. The
longest files start first instead, so that no worker works alone at the end. Record the seconds again after a
change: `make test RECORD=--record-seconds`. Several threads of each worker would wait for each other's cores.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tasks.common.threads import sleep_while_waiting
from tests.searching import register_profiles

sleep_while_waiting(os.environ)
os.environ.setdefault("OMP_NUM_THREADS", "1")
register_profiles()

SECONDS = Path(__file__).with_name("seconds.json")
RECORDED_FROM = 2.0
ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-seconds", action="store_true", help=f"write {SECONDS.name} for the next runs")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
    if config.option.record_seconds and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by recorded seconds, longest file first; the order inside a file stays the same."""
    seconds: dict[str, float] = json.loads(SECONDS.read_text())
    items.sort(key=lambda item: -seconds.get(item.path.relative_to(ROOT).as_posix(), 0.0))


class Recorder:
    """Adds up the seconds of set-up, call and tear-down for each file."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.split("::")[0]] += report.duration

    def pytest_sessionfinish(self) -> None:
        long = {name: round(spent) for name, spent in sorted(self.seconds.items()) if spent >= RECORDED_FROM}
        SECONDS.write_text(json.dumps(long, indent=2) + "\n")
