"""Floors of label scores on rows whose answer is known, and the rate at which labels of a floor exceed it."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from catalog import queries
from catalog.connection import connect
from catalog.ledger import StageOutcome
from catalog.slices import SliceWrite
from catalog.store import publish_rows
from tasks.stages.measure_floors import FloorsUnit, measure_floors
from tasks.support.policies import StageContext

ALIAS = "pico-a/blocks.2.resid_post"
RANDOM, FROZEN = f"{ALIAS}/random_directions-x8-s0-00000001", f"{ALIAS}/frozen_decoder-x4-s0-00000002"
WIDE = f"{ALIAS}/frozen_decoder-x64-s0-00000003"
REDRAWN = "pico-random/blocks.2.resid_post/topk-x8-k32-s0-00000004"
RANDOM_SET = "pico-random/blocks.2.resid_post-00000009"
LABELS = {"explainer": "lexical", "position": 0}


class Catalogue:
    """A dictionary, and dictionaries that are its floors, with as many scored labels as a test wants."""

    def __init__(self, root: Path, small: ModuleType) -> None:
        self.root, self.small = root, small
        self.n_commits = 0
        models, _, sets = (write.rows.to_pylist()[0] for write in small.models())
        redrawn = {
            **models,
            "model_id": "pico-random",
            "source": "reinitialised",
            "parent_model_id": "pico-a",
        }
        there = {**sets, "activation_set_id": RANDOM_SET, "model_id": "pico-random"}
        kinds = [
            (RANDOM, "random_directions", 8),
            (FROZEN, "frozen_decoder", 8),
            (WIDE, "frozen_decoder", 64),
        ]
        self.publish(
            *small.models(),
            SliceWrite("models", "random", small.table("models", [{**models}, redrawn][1:])),
            SliceWrite("activation_sets", RANDOM_SET, small.table("activation_sets", [there])),
            SliceWrite("dictionaries", "own", small.dictionary()),
            SliceWrite("dictionaries", "redrawn", small.dictionary(REDRAWN, activation_set_id=RANDOM_SET)),
            *(
                SliceWrite(
                    "dictionaries", kind, small.dictionary(kind, architecture=architecture, d_sae=width)
                )
                for kind, architecture, width in kinds
            ),
        )

    def publish(self, *writes: SliceWrite) -> None:
        self.n_commits += 1
        publish_rows(self.root, list(writes), fingerprint=f"{self.n_commits:064x}")

    def label(
        self, scores: Any, dictionary: str = "", activation_set: str = "", chance: Any = 0.5, **other: Any
    ) -> None:
        """Features with one scored explanation each; ``scores`` are their values, within 0.1."""
        values = np.asarray(scores, float)
        ids = {
            "dictionary_id": dictionary or self.small.DICTIONARY,
            "activation_set_id": activation_set or self.small.SET,
        }
        written = {**LABELS, **other}
        name = f"{ids['dictionary_id']} {ids['activation_set_id']} {written['explainer']} {self.n_commits}"
        base = self.small.explanations(n=1).to_pylist()[0]
        rows, scored, features = [], [], []
        shape = self.small.features(n=1).to_pylist()[0]
        chances = np.broadcast_to(np.asarray(chance, float), values.shape)
        for index, (value, own) in enumerate(zip(values.tolist(), chances.tolist(), strict=True)):
            of = {**ids, "feature_index": index, "explanation_id": f"{name} {index}"}
            rows.append({**base, **of, **written})
            score = self.small.score("", "neighbour", value, chance=own, above_chance=value > own + 0.1)
            scored.append({**score, **of})
            features.append({**shape, **ids, "feature_index": index, "status": "alive"})
        writes = [("explanations", rows), ("scores", scored)]
        if written["explainer"] == "lexical":
            writes.append(("features", features))
        self.publish(*(SliceWrite(table, name, self.small.table(table, of)) for table, of in writes))

    def measure(self) -> StageOutcome:
        facts = {"dictionary_id": self.small.DICTIONARY, "activation_set_id": self.small.SET}
        return measure_floors.fn(StageContext(self.root, "run-1"), FloorsUnit(facts))

    def floors(self) -> dict[str, dict[str, Any]]:
        with connect(self.root) as connection:
            rows = (
                connection.sql("from score_floors where explainer = 'lexical'").to_arrow_table().to_pylist()
            )
        return {row["floor"]: row for row in rows}

    def verdicts(self) -> list[tuple[Any, ...]]:
        """Verdict, floors above and not above, of each feature of the dictionary."""
        sql = "select verdict, floors_above, floors_not_above from feature_cards where dictionary_id = ?"
        with connect(self.root) as connection:
            return connection.execute(f"{sql} order by feature_index", [self.small.DICTIONARY]).fetchall()


@pytest.fixture
def labelled(tmp_path: Path, small: ModuleType) -> Catalogue:
    return Catalogue(tmp_path / "catalogue", small)


def test_each_floor_is_measured_as_its_definition_says(labelled: Catalogue, small: ModuleType) -> None:
    labelled.label(np.linspace(0.6, 1.0, 41), chance=0.55)
    labelled.label(np.linspace(0.5, 0.7, 41), explainer="single_token", position=1)
    labelled.label(np.linspace(0.4, 0.8, 39), FROZEN)
    labelled.label(np.linspace(0.9, 1.0, 39), WIDE)
    labelled.label([0.5] * 18, RANDOM)
    labelled.label([0.6] * 25, REDRAWN, RANDOM_SET)
    labelled.label([0.9] * 25, small.DICTIONARY, RANDOM_SET)
    outcome = labelled.measure()
    floors = labelled.floors()
    assert sorted(floors) == outcome.facts["floors"]
    chance, token, frozen = (floors[name] for name in ("shuffled_labels", "single_token", "frozen_decoder"))
    assert (chance["value"], chance["lift"], chance["threshold"]) == (0.55, pytest.approx(0.25), None)
    assert (token["value"], token["n"]) == (pytest.approx(0.6), 41)
    assert token["lift"] == pytest.approx(0.2), "the median of value - token over the features"
    assert frozen["floor_dictionary_id"] == FROZEN, "the one nearest in width"
    assert frozen["value"] == pytest.approx(0.6)
    assert frozen["threshold"] == pytest.approx(np.linspace(0.4, 0.8, 39)[37]), "the 38th of 39"
    assert frozen["lift"] == pytest.approx(0.2)
    assert frozen["lift_ci_low"] < 0.2 < frozen["lift_ci_high"]
    low, high = np.linspace(0.4, 0.8, 39)[[12, 26]]
    assert (frozen["ci_low"], frozen["ci_high"]) == pytest.approx((low, high))
    assert floors["random_directions"]["threshold"] is None, "18 labels are too few"
    assert floors["random_weights"]["floor_dictionary_id"] == REDRAWN, (
        "trained there, before the dictionary itself"
    )
    assert floors["random_weights"]["value"] == 0.6


def test_a_card_says_what_a_label_is_above(labelled: Catalogue, small: ModuleType) -> None:
    labelled.label([0.55, 0.75, 0.95, 0.95, 0.7])
    assert {row[0] for row in labelled.verdicts()} == {"not above chance", "above chance, no floor measured"}
    labelled.label([0.5, 0.5, 0.5, 0.9, 0.5], explainer="single_token", position=1)
    labelled.label(np.linspace(0.4, 0.8, 39), FROZEN)
    labelled.measure()
    assert labelled.verdicts() == [
        ("not above chance", [], ["frozen_decoder", "single_token"]),
        ("above chance only", ["single_token"], ["frozen_decoder"]),
        ("above all floors", ["frozen_decoder", "single_token"], []),
        ("above chance only", ["frozen_decoder"], ["single_token"]),
        ("above chance only", ["single_token"], ["frozen_decoder"]),
    ]


def test_labels_without_information_exceed_a_floor_in_five_cases_of_a_hundred(
    labelled: Catalogue, small: ModuleType
) -> None:
    """Scores of the dictionary and of the floor come from one distribution, so nothing is better."""
    generator = np.random.default_rng(7)
    n = 2_000
    labelled.label(0.62 + 0.05 * generator.standard_normal(n))
    labelled.label(0.62 + 0.05 * generator.standard_normal(n), FROZEN)
    labelled.measure()
    above = np.mean([verdict == "above all floors" for verdict, _, _ in labelled.verdicts()])
    assert 0.03 < above < 0.065


def test_floors_are_measured_again_once_a_score_changes(labelled: Catalogue, small: ModuleType) -> None:
    labelled.label(np.linspace(0.6, 1.0, 30))
    labelled.label(np.linspace(0.4, 0.8, 30), FROZEN)
    first = labelled.measure()
    assert first.recomputed
    assert not labelled.measure().recomputed
    labelled.label(np.linspace(0.5, 0.9, 30), RANDOM)
    again = labelled.measure()
    assert again.recomputed
    assert set(again.facts["floors"]) - set(first.facts["floors"]) == {"random_directions"}
    labelled.label([0.5] * 30, WIDE)
    assert labelled.measure().recomputed, "another candidate"
    assert len(labelled.floors()) == len(again.facts["floors"]), "its rows replace those of before"


def test_no_scores_make_no_floors(labelled: Catalogue, small: ModuleType) -> None:
    outcome = labelled.measure()
    assert outcome.facts["floors"] == []
    with connect(labelled.root) as connection:
        sources = queries.floor_sources(dictionary_id=small.DICTIONARY, activation_set_id=small.SET)
        assert sources.read(connection).num_rows == 0
