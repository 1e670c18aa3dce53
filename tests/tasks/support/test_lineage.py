"""What a training starts from is found, checked, part of its identity and kept; a rerun starts nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from catalog.connection import connect
from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows.config import PipelineConfig
from flows.starts import check_starts
from tasks.dictionaries.base import dictionary_config
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.training_units import CachedHookpoint, TrainUnit
from tests.childless import trained_here
from tests.tasks.stages.test_stage_identity import CACHING, CONFIGS, HOOKPOINT, MODEL, Bench
from tests.tasks.stages.test_training_identity import config_of, fingerprint

NAME = "topk-w32-k4-s0"
ALIAS = f"pico-b/{HOOKPOINT}/{NAME}"
SMALL = {"architecture": "topk", "d_sae": 32, "k": 4, "n_tokens": 1_000}
RELEASED = {
    "topk": "b2bf56bdd165f362df33fdfaaf6861102f5a363af90d805f01b41a8b6eae34fd",
    "jumprelu": "e45d8fa8a58ec5cebed46fefe27d997b3f8a67b4cb1757501dfb65fe948c9ff3",
    "pca": "f273b138ab6688db550474b82a171a487279c59db93b7a76c8aea06220fec56c",
}
"""Fingerprints in catalogues of people; never changed."""


@pytest.mark.parametrize("name", RELEASED)
def test_a_dictionary_without_a_parent_keeps_its_fingerprint(name: str) -> None:
    config = config_of(name)
    assert fingerprint(config) == RELEASED[name]
    assert "init_from" not in config.canonical()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with trained_here():
        yield Bench(tmp_path_factory.mktemp("lineage") / "catalogue")


def unit(bench: Bench, **settings: Any) -> TrainUnit:
    cached = bench.run("cache", CONFIGS["cache"])
    config = dictionary_config({**SMALL, **settings})
    return TrainUnit(config, (CachedHookpoint(cached, HOOKPOINT, MODEL),)).started(bench.context.root)


def trained(bench: Bench, **settings: Any) -> StageOutcome:
    return train_dictionary.fn(bench.context, unit(bench, **settings))


def test_nights_go_on_from_each_other_and_a_rerun_finds_them(bench: Bench) -> None:
    """The name means the newest dictionary, so it must not lead a rerun to train that one further."""
    root, first = bench.context.root, bench.trained.facts["dictionary_id"]
    second = trained(bench, init_from=NAME)
    assert second.recomputed
    assert (second.facts["alias"], second.facts["parent_dictionary_id"]) == (ALIAS, first)
    again = trained(bench, init_from=ALIAS)
    assert (again.fingerprint, again.recomputed) == (second.fingerprint, False)
    third = trained(bench, init_from=NAME, lr=0.002)
    assert third.facts["parent_dictionary_id"] == second.facts["dictionary_id"]
    other = trained(bench, init_from=first, seed=7)
    assert other.facts["parent_dictionary_id"] == first
    assert unit(bench, seed=7).fingerprint != unit(bench, seed=7, init_from=first).fingerprint
    with connect(root) as connection:
        query = "select dictionary_id, parent_dictionary_id from dictionaries"
        parents = dict(connection.execute(query).fetchall())
    assert parents[first] is None
    landed = [one.facts["dictionary_id"] for one in (second, third, other)]
    assert [parents[one] for one in landed] == [first, landed[0], first]
    described = json.loads((root / second.facts["weights_uri"] / "cfg.json").read_text())["metadata"]
    assert described["started_from"] == {"dictionary_id": first, "optimiser": "fresh"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"init_from": "topk-w32-k5-s0"}, "no dictionary of the catalogue matches 'pico-b/.*'; close names"),
        ({"init_from": "pico-b/*"}, "which matches [2-9] dictionaries: name one of them"),
        ({"init_from": NAME, "d_sae": 48}, "that one has 32 latents and 48 are wanted, so set d_sae to 32"),
        (
            {"init_from": NAME, "architecture": "jumprelu", "k": None, "target_l0": 2.0},
            "a topk and a jumprelu differ in threshold, so name a jumprelu",
        ),
        ({"init_from": NAME, "architecture": "frozen_decoder"}, "keeps its random decoder, leave init_from"),
    ],
    ids=["unknown", "several", "width", "parameters", "control"],
)
def test_what_is_no_start_is_one_sentence(bench: Bench, settings: dict[str, Any], words: str) -> None:
    fields = {name: value for name, value in {**SMALL, **settings}.items() if value is not None}
    config = dictionary_config(fields)
    point = CachedHookpoint(bench.run("cache", CONFIGS["cache"]), HOOKPOINT, MODEL)
    with pytest.raises(UserError, match=words) as refused:
        TrainUnit(config, (point,)).started(bench.context.root)
    assert "\n" not in str(refused.value)


def test_the_same_parameters_are_enough(bench: Bench) -> None:
    assert unit(bench, architecture="batch_topk", init_from=NAME).parent is not None


def pipeline(hookpoint: str = HOOKPOINT, **settings: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "warm",
            "corpus": {"source": "stdlib"},
            "models": [{"id": "pico-b", "source": "embedded"}],
            "activations": {**CACHING, "hookpoints": [hookpoint]},
            "dictionaries": [{**SMALL, **settings}],
        }
    )


def test_a_pipeline_is_checked_before_anything_runs(bench: Bench, tmp_path: Path) -> None:
    root = bench.context.root
    check_starts(pipeline(), root)
    check_starts(pipeline(init_from=NAME), root)
    with pytest.raises(UserError, match=f"belongs to {HOOKPOINT} of pico-b, not to blocks.0.resid_post of"):
        check_starts(pipeline("blocks.0.resid_post", init_from=ALIAS), root)
    with pytest.raises(UserError, match="the catalogue has none yet"):
        check_starts(pipeline(init_from=NAME), tmp_path / "none")


def test_what_takes_no_steps_starts_from_nothing() -> None:
    with pytest.raises(ValidationError, match="not trained by steps: leave init_from out"):
        dictionary_config({"architecture": "pca", "init_from": NAME})
