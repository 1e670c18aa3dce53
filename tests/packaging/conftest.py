"""The wheel, installed outside the checkout beside nothing but what it declares."""

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTION = "featlas-platform"


@dataclass(frozen=True)
class Installation:
    """A virtual environment that has the wheel."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        hidden = ("PREFECT_", "FEATLAS_", "OPENAI_", "PYTHON", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return kept | {"FEATLAS_STATE": str(self.folder / "state"), "OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``featlas``."""
        return [str(self.folder / "bin" / "featlas"), *arguments]

    def featlas(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run ``featlas`` in the folder of the environment."""
        return self.run(*self.command(*arguments), **environment)

    def python(self, code: str) -> "subprocess.CompletedProcess[str]":
        """Run ``code``."""
        return self.run(str(self.folder / "bin" / "python"), "-c", code)

    def run(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command with the environment of a user who set nothing else."""
        settings: dict[str, Any] = {"cwd": self.folder, "env": {**self.environment, **environment}}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, **settings)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installation]:
    """Install the wheel with an extra: its files, and links to what its metadata asks for."""

    def make(extra: str) -> Installation:
        folder = tmp_path_factory.mktemp(f"installed-{extra}")
        venv.create(folder, symlinks=True)
        packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
        subprocess.run([*command, "--quiet", "--no-deps", str(wheel)], check=True, capture_output=True)
        for found in requirements(wheel, extra).values():
            link(found, packages)
        return Installation(folder)

    return make


def requirements(wheel: Path, extra: str) -> dict[str, Distribution]:
    """Every distribution that the wheel needs with ``extra``, by canonical name."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        own = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist") or []
    found: dict[str, Distribution] = {}
    asked = [(own, {"", extra})]
    seen: set[tuple[str, frozenset[str]]] = set()
    while asked:
        lines, extras = asked.pop()
        for wanted in map(Requirement, lines):
            step = (canonicalize_name(wanted.name), frozenset(wanted.extras))
            if step in seen or not _applies(wanted, extras):
                continue
            seen.add(step)
            if step[0] == DISTRIBUTION:
                asked.append((own, {"", *wanted.extras}))
            else:
                found[step[0]] = distribution(step[0])
                asked.append((found[step[0]].requires or [], {"", *wanted.extras}))
    return found


def _applies(wanted: Requirement, extras: set[str]) -> bool:
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras)


def link(found: Distribution, packages: Path) -> None:
    """Link the top-level entries of an installed distribution into another environment."""
    for name in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
        source, target = Path(str(found.locate_file(name))), packages / name
        if not target.exists() and source.exists():
            target.symlink_to(source)
        elif target.is_dir() and source.is_dir() and source.resolve() != target.resolve():
            merge(source, target)


def merge(source: Path, target: Path) -> None:
    """Two distributions share a folder (a namespace package): link what the other one adds."""
    if target.is_symlink():
        first = target.resolve()
        target.unlink()
        target.mkdir()
        for entry in first.iterdir():
            (target / entry.name).symlink_to(entry)
    for entry in source.iterdir():
        if not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
