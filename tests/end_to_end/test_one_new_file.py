"""One new file adds a thing: a toy of every kind, dropped into its folder, runs from YAML to rows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog.connection import connect
from flows.registries import REGISTRIES
from tests.fakes.openai_server import Answer, FakeOpenAI, Question, answers

ROOT = Path(__file__).resolve().parents[2]
TOYS = ROOT / "tests" / "toys"
MORE = {"judge": "scorer"}
"""Toys beside the one of each kind, and their kind."""
PLUGIN = "fitted"
"""The toy architecture that comes with an installed package instead."""
PIPELINE: dict[str, Any] = {
    "name": "toys",
    "corpus": {"source": "toy_corpus"},
    "models": [{"id": "pico-b", "source": "embedded", "hookpoints": ["blocks.1.resid_post"]}],
    "activations": {"context_length": 32, "n_tokens": 3_000, "eval_share": 0.25},
    "dictionaries": [
        {
            "architecture": "toy_architecture",
            "d_sae": 32,
            "n_tokens": 4_000,
            "batch_tokens": 256,
            "lr": 0.003,
        },
        {"architecture": "toy_fitted", "n_tokens": 2_000},
    ],
    "mining": {"n_top": 4, "n_per_band": 2, "n_random": 3, "n_neighbour": 3},
    "explain": {"explainer": "toy_explainer"},
    "score": [
        {"scorer": "toy_scorer", "shuffles": 1},
        {
            "scorer": "toy_judge",
            "endpoint": "toy",
            "shuffles": 0,
            "n_firing": 2,
            "n_random": 1,
            "n_neighbour": 1,
        },
    ],
    "match": [{"matcher": "toy_matcher"}],
    "evaluate": [{"suite": "toy_suite"}],
}


def copy_with_toys(folder: Path) -> None:
    """The packages with a toy of every kind among the files of its folder."""
    for package in ("catalog", "flows", "tasks"):
        shutil.copytree(ROOT / package, folder / package, copy_function=os.link)
    packages = {registry.kind.replace(" ", "_"): registry.package for registry in REGISTRIES}
    for toy, kind in {**{kind: kind for kind in packages}, **MORE}.items():
        shutil.copy(TOYS / f"{toy}.py", folder / packages[kind].replace(".", "/") / f"toy_{toy}.py")


def install_plugin(site: Path) -> None:
    """A package with one entry point, as pip installs it."""
    site.mkdir()
    shutil.copy(TOYS / f"{PLUGIN}.py", site / "toy_package.py")
    info = site / "toy_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[featlas.architecture]\ntoy = toy_package\n")


def judge(question: Question) -> Answer:
    """Knows the word of the explanation."""
    word = question.explanation.split()[-1]
    return answers([word in passage for passage in question.passages])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue of the toys."""
    folder = tmp_path_factory.mktemp("toys")
    copy_with_toys(folder / "packages")
    install_plugin(folder / "site")
    (folder / "toys.yaml").write_text(yaml.safe_dump(PIPELINE))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEATLAS_")}
    environment["PYTHONPATH"] = f"{folder / 'packages'}{os.pathsep}{folder / 'site'}"
    environment |= {"OMP_NUM_THREADS": "1", "FEATLAS_STATE": str(folder / "state")}
    with FakeOpenAI(judge) as model:
        profile = {"BASE_URL": model.base_url, "MODEL": "m", "PROBE": "false"}
        environment |= {f"FEATLAS_ENDPOINT_TOY_{name}": value for name, value in profile.items()}
        paths = [folder / name for name in ("toys.yaml", "catalogue", "exported")]
        command = [sys.executable, "-P", str(TOYS / "run.py"), *map(str, paths)]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "catalogue"


def ask(root: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(root) as connection:
        return list(connection.execute(sql).fetchall())


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("select distinct source from corpora", {("toy",)}),
        (
            "select architecture, origin from dictionaries",
            {("toy_architecture", "trained"), ("toy_fitted", "baseline"), ("relu_l1", "imported")},
        ),
        ("select distinct explainer from explanations where status = 'ok'", {("toy_explainer",)}),
        ("select distinct scorer from scores", {("toy_scorer",), ("toy_judge",)}),
        ("select distinct purpose from llm_calls", {("toy_judge",)}),
        ("select distinct method from matches", {("toy_matcher",)}),
        ("select distinct metric from dictionary_metrics where metric like 'toy%'", {("toy_norm",)}),
        (
            "select config ->> '$.imported.format' from dictionaries where origin = 'imported'",
            {("toy_format",)},
        ),
    ],
    ids=["corpus source", "architecture", "explainer", "scorer", "judge", "matcher", "suite", "format"],
)
def test_a_file_that_is_dropped_into_its_folder_leaves_its_rows(
    root: Path, sql: str, found: set[tuple[str, ...]]
) -> None:
    assert set(ask(root, sql)) == found


def test_there_is_a_toy_of_every_kind_and_none_in_the_tree() -> None:
    for registry in REGISTRIES:
        assert (TOYS / f"{registry.kind.replace(' ', '_')}.py").is_file()
        assert not [name for name in registry if name.startswith("toy_")]
