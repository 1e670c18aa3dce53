"""What explainers find of features planted in the standard library, and what wrong labels score there."""

import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.autointerp.explainers.lexical import LexicalConfig
from tasks.autointerp.lexicon.rule import Constant
from tasks.autointerp.planting.evidence import plant, planted_evidence
from tasks.autointerp.planting.families import Planted
from tasks.autointerp.planting.passages import cut
from tasks.autointerp.records import FeatureEvidence
from tasks.autointerp.runner import explain, score
from tasks.autointerp.scorers.predicate import PredicateConfig

IDS = {"dictionary_id": "planted", "activation_set_id": "planted"}
LIMITS = {"firing": 60, "random": 30, "neighbour": 30}
TOKEN_RULES, MIXTURES = ("word", "suffix", "prefix", "casing"), ("mixture_of_2", "mixture_of_3")
FOUND = 0.9
"""Balanced accuracy against near misses from which a rule counts as found."""


class Suite:
    """Planted features with their evidence and what the lexical explainer says of them."""

    def __init__(self, folder: Path) -> None:
        library = Path(sysconfig.get_paths()["stdlib"])
        texts = [(path.name, path.read_text("utf-8")) for path in sorted(library.glob("*.py"))[:120]]
        passages = cut(texts)
        self.folder = folder
        self.planted: list[Planted] = plant(passages, 10)
        self.evidence: list[FeatureEvidence] = planted_evidence(passages, self.planted, LIMITS)
        self.explanations = explain(self.evidence, LexicalConfig(), **IDS, scratch=folder).explanations

    def scores(self, explanations: pa.Table, name: str) -> dict[int, dict[str, Any]]:
        """The score against near misses of each feature."""
        scratch = self.folder / name
        scored = score(self.evidence, explanations, PredicateConfig(), **IDS, scratch=scratch)
        return {
            row["feature_index"]: row
            for row in scored.scores.to_pylist()
            if (row["metric"], row["variant"]) == ("balanced_accuracy", "neighbour")
        }

    def with_column(self, name: str, values: list[Any]) -> pa.Table:
        place = self.explanations.column_names.index(name)
        field = self.explanations.schema.field(name)
        return self.explanations.set_column(place, field, pa.array(values, field.type))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("suite"))


def test_the_lexical_explainer_names_rules_on_tokens_and_mixtures(suite: Suite) -> None:
    rows = suite.scores(suite.explanations, "own")
    found = {
        families: np.mean(
            [
                (rows[index]["value"] or 0.0) >= FOUND
                for index, one in enumerate(suite.planted)
                if one.family in families
            ]
        )
        for families in (TOKEN_RULES, MIXTURES)
    }
    assert found[TOKEN_RULES] >= 0.95
    assert found[MIXTURES] >= 0.7


def test_the_label_of_another_feature_is_not_above_chance(suite: Suite) -> None:
    rows = suite.explanations.to_pylist()
    moved = [rows[(place + 5) % len(rows)]["predicate"] for place in range(len(rows))]
    wrong = suite.scores(suite.with_column("predicate", moved), "wrong")
    above = [bool(row["above_chance"]) for row in wrong.values()]
    assert np.mean(above) <= 0.1


def test_a_constant_label_is_at_chance(suite: Suite) -> None:
    constant = [Constant(True).to_json()] * suite.explanations.num_rows
    rows = suite.scores(suite.with_column("predicate", constant), "constant")
    assert {row["value"] for row in rows.values()} == {0.5}
    assert not any(row["above_chance"] for row in rows.values())
