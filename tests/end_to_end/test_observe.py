"""Dictionaries on sets other than their home, in the run that trains them and in one that uses them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catalog.connection import connect
from catalog.store import TableStore

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

EVIDENCE = ("features", "examples", "explanations", "scores", "dictionary_metrics")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sections(user: Any) -> dict[str, Any]:
    """A model, the same with random weights, and texts of two folders of this repository."""
    for name in ("catalog", "flows"):
        shutil.copytree(ROOT / name, user.folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    base = {"id": "pico-a", "source": "embedded", "hookpoints": ["blocks.2.resid_post"]}
    corpora = [
        {"id": name, "source": "text", "path": str(user.folder / name)} for name in ("catalog", "flows")
    ]
    return {
        "corpus": None,
        "corpora": corpora,
        "models": [base, {"id": "pico-r", "source": "reinitialised", "of": "pico-a", "seed": 0}],
        "activations": {
            "context_length": 64,
            "n_tokens": 8_000,
            "eval_share": 0.25,
            "hookpoints": ["blocks.2.resid_post"],
        },
    }


@pytest.fixture(scope="module")
def trained(user: Any, sections: dict[str, Any]) -> dict[str, Any]:
    """A run that trains on one model and looks at the other one, and at other texts."""
    dictionary = {"architecture": "topk", "d_sae": 32, "k": 4, "n_tokens": 10_000, "train_on": ["pico-a"]}
    observed = {"observe": [{"model": "pico-r"}, {"corpus": "flows"}], "match": []}
    path = user.pipeline("looks", **{**sections, "dictionaries": [dictionary], **observed})
    return dict(user.run(path))


def look(user: Any, dictionaries: list[str], pipeline: str, **settings: Any) -> dict[str, Any]:
    """The summary of the flow ``observe`` in a process of its own."""
    given = {"catalogue": str(user.folder / "catalogue"), **settings}
    code = "import json, sys; from flows.observe import observe; a = json.loads(sys.argv[1]);"
    code += "open(sys.argv[2], 'w').write(json.dumps(observe(**a)))"
    answer = user.folder / "answer.json"
    asked = json.dumps({"dictionaries": dictionaries, "pipeline": pipeline, **given})
    command = [sys.executable, "-c", code, asked, str(answer)]
    subprocess.run(command, env=user.environment, check=True, timeout=280)
    return dict(json.loads(answer.read_text()))


def sets(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Per table the sets that it has rows on, with their number."""
    with connect(root) as connection:
        return {
            table: connection.sql(
                f"select activation_set_id, count(*) from {table} group by all order by all"
            ).fetchall()
            for table in EVIDENCE
        }


def test_every_set_has_its_own_evidence_and_the_home_keeps_the_cards(
    user: Any, trained: dict[str, Any]
) -> None:
    root = user.folder / "catalogue"
    assert trained["state"] == "completed"
    assert [s["label"] for s in trained["stages"] if s["stage"] == "train_dictionary"] == [
        "pico-a/blocks.2.resid_post/topk-w32-k4-s0"
    ]
    for table, found in sets(root).items():
        assert len(found) == 3, table
    with connect(root) as connection:
        (cards,) = connection.sql(
            "select count(*), count(distinct feature_index) from feature_cards"
        ).fetchall()
        homes = "select distinct activation_set_id from feature_cards"
        assert connection.sql(f"{homes} except select activation_set_id from dictionaries").fetchall() == []
        seen = connection.sql(
            "select set_model_id, is_home, count(*) from feature_observations group by all order by all"
        ).fetchall()
        quality = dict(
            connection.sql(
                "select s.model_id || ' ' || (m.activation_set_id = d.activation_set_id), m.value "
                "from dictionary_metrics as m join activation_sets as s using (activation_set_id) "
                "join dictionaries as d using (dictionary_id) "
                "where metric = 'fvu' and variant = '' and split = 'eval'"
            ).fetchall()
        )
    assert cards == (32, 32)
    assert seen == [("pico-a", False, 32), ("pico-a", True, 32), ("pico-r", False, 32)]
    assert quality["pico-a true"] < quality["pico-a false"] + 0.2 < quality["pico-r false"]
    assert TableStore(root).verify() == []


def test_nothing_is_run_or_computed_twice(user: Any, trained: dict[str, Any]) -> None:
    again = user.run(user.folder / "looks.yaml")
    assert (again["n_recomputed"], again["n_found"]) == (0, len(trained["stages"]))
    cached = [stage["label"] for stage in trained["stages"] if stage["stage"] == "cache_activations"]
    assert len(cached) == len(set(cached)) == 3


def test_another_pipeline_uses_it_and_the_flow_looks_once_more(
    user: Any, sections: dict[str, Any], trained: dict[str, Any]
) -> None:
    root = user.folder / "catalogue"
    before = sets(root)
    swapped = {"corpora": sections["corpora"][::-1]}
    used = [{"use": "pico-a/*/topk-w32-*"}]
    path = user.pipeline("uses", **{**sections, **swapped, "dictionaries": used, "match": []})
    summary = user.run(path)
    states = {stage["stage"]: stage["state"] for stage in summary["stages"]}
    assert states["train_dictionary"] == states["mine_examples"] == states["evaluate_dictionary"] == "found"
    assert sets(root) == before
    assert user.run(path, "--set", "observe=[{corpus: flows}]")["n_recomputed"] == 0
    looked = look(user, ["*topk-w32-*"], str(path), model="pico-r", stages=["mine_examples"])
    assert {s["stage"] for s in looked["stages"] if s["state"] == "recomputed"} == {
        "cache_activations",
        "observe_dictionary",
        "mine_examples",
    }
    after = sets(root)
    assert len(after["features"]) == len(before["features"]) + 1
    assert after["scores"] == before["scores"]
