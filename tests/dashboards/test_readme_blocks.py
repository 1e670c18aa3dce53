"""Blocks of the READMEs run: those marked ``<!-- runnable -->``, and every block of SQL."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from catalog.connection import connect

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("infra", "flows", "catalog", "dashboards", "tasks", "tests")
READMES = [
    ROOT / "README.md",
    *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.md"))),
]
RUNNABLE = re.compile(r"^<!-- runnable -->\n```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SQL = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
DEMO = "pico-a/blocks.2.resid_post/topk-x8-k16-s0"  # the dictionary of `make demo`, which the blocks name


def blocks(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for path in READMES:
        for block in pattern.findall(path.read_text()):
            yield str(path.relative_to(ROOT)), block


@pytest.fixture(scope="module")
def demo(catalogue: Path, synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic catalogue with a dictionary under the name that the READMEs use."""
    root = tmp_path_factory.mktemp("readme") / "catalogue"
    shutil.copytree(catalogue, root)
    synthetic.publish_alias(root, DEMO, synthetic.dictionary_of("pico-a"))
    return root


@pytest.mark.parametrize(("readme", "block"), list(blocks(RUNNABLE)))
def test_marked_block_runs(readme: str, block: str, demo: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"FEATLAS_CATALOG": str(demo), "PATH": path}
    done = subprocess.run(
        ["bash", "-euc", block], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{readme}: {done.stderr}"
    assert done.stdout.strip(), readme


@pytest.mark.parametrize(("readme", "block"), list(blocks(SQL)))
def test_block_of_sql_runs(readme: str, block: str, demo: Path) -> None:
    with connect(demo) as connection:
        connection.execute(block).fetchall()


def test_blocks_are_found() -> None:
    assert len(list(blocks(RUNNABLE))) >= 2
    assert len(list(blocks(SQL))) >= 4
