"""Associations of a feature with document labels: drawn from chance, with a reason where there are none."""

from pathlib import Path
from types import ModuleType

import pytest

from dashboards import data
from dashboards.components import association_parts, decodability_parts
from dashboards.components.markup import Element, Node
from dashboards.evidence import Evidence, gather
from dashboards.selection import FeatureSelection


def words(node: Node) -> str:
    if isinstance(node, str):
        return node
    return "".join(words(child) for child in node.children)


def bars(node: Node) -> list[Element]:
    if isinstance(node, str):
        return []
    own = [node] if dict(node.attributes).get("class", "").split()[:1] == ["bar"] else []
    return own + [found for child in node.children for found in bars(child)]


def found(synthetic: ModuleType, feature: int, activation_set: str | None = None) -> Evidence:
    dictionary = synthetic.dictionary_of("pico-a")
    return gather(data.current(), FeatureSelection(dictionary, feature, activation_set))


@pytest.fixture(autouse=True)
def shown(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))


def test_bars_begin_at_chance_and_hollow_ones_mean_lower(synthetic: ModuleType) -> None:
    evidence = found(synthetic, 5)
    drawn = association_parts.associations(evidence.associations, evidence.association_tests)
    lengths = [dict(bar.attributes) for bar in bars(drawn)]
    assert [(bar["class"], bar["style"]) for bar in lengths] == [
        ("bar", "width:88.0%"),
        ("bar less", "width:76.0%"),
        ("bar", "width:10.0%"),
    ]
    text = words(drawn)
    assert "kind = code" in text
    assert "fires in 13 of 14, 3 of 26 others, q = 0.0040" in text
    assert "40 with kind" in text
    assert "<b>mixed</b>" in text


@pytest.mark.parametrize(
    ("feature", "elsewhere", "why"),
    [(8, False, "fires in fewer than 5 documents"), (5, True, "associate_labels did not run")],
)
def test_a_feature_without_associations_has_a_reason(
    feature: int, elsewhere: bool, why: str, synthetic: ModuleType
) -> None:
    activation_set = synthetic.activation_set_of("pico-b") if elsewhere else None
    evidence = found(synthetic, feature, activation_set)
    assert evidence.associations == []
    drawn = association_parts.associations(evidence.associations, evidence.association_tests)
    assert why in words(drawn)
    assert bars(drawn) == []


def test_labels_that_were_left_out_are_named() -> None:
    tests = {"n_tests": 0, "n_found": 0, "min_documents": 5, "skipped": ["label kind has one value, code"]}
    assert "label kind has one value, code" in words(association_parts.associations([], tests))


def test_the_first_layer_from_which_a_feature_is_decodable(synthetic: ModuleType) -> None:
    (drawn,) = decodability_parts.decodability(found(synthetic, 5).decodability)
    text = words(drawn)
    assert "first linearly decodable at blocks.1.resid_post" in text
    assert "blocks.2.resid_post (its own)" in text
    assert "shuffled firing reaches 0.54" in text
    assert [dict(bar.attributes)["style"] for bar in bars(drawn)] == [
        "width:42.0%",
        "width:86.0%",
        "width:98.0%",
    ]
    assert decodability_parts.decodability(found(synthetic, 6).decodability) == []


def test_a_feature_that_no_layer_holds_says_so(synthetic: ModuleType) -> None:
    rows = [{**row, "is_first": False, "is_decodable": False} for row in found(synthetic, 5).decodability]
    (drawn,) = decodability_parts.decodability(rows)
    assert "not linearly decodable" in words(drawn)
