"""What stands beside a value: controls, floors, and the sentence for random weights."""

from typing import Any

import pytest

from dashboards.components import dictionary_parts, measures
from tests.dashboards.test_association_parts import words

ROW = {"metric": "fvu", "variant": "", "value": 0.1, "control": '{"k": 4, "pca": 0.2, "random": 0.9}'}
ROW |= {"note": None, "n": 10, "ci_low": None, "ci_high": None, "is_random_model": False}
ROW |= {"frozen_decoder": 0.3, "random_model": 0.8}


def line(**fields: Any) -> measures.Line:
    (found,) = measures.lines([{**ROW, **fields}], measures.CORE)
    return found


def test_floors_stand_beside_the_controls() -> None:
    assert line().beside == "PCA 0.200, random dictionary 0.900, frozen decoder 0.300, random weights 0.800"
    assert line(control=None, random_model=None).beside == "frozen decoder 0.300"


def test_recovered_cross_entropy_of_random_weights_is_no_number() -> None:
    ce = {"metric": "ce_recovered", "variant": "mean_ablation", "value": 0.9, "control": None}
    assert line(**ce, is_random_model=True)[3:5] == ("–", measures.RANDOM_WEIGHTS)
    plain = line(**ce)
    assert (plain.value, plain.beside) == ("0.900", "frozen decoder 0.300"), "a random model is no floor here"


@pytest.mark.parametrize(("parent", "shown"), [(None, False), ("pico-a/x/topk-s0-00000001", True)])
def test_the_dictionary_that_a_training_started_from_is_shown(parent: str | None, shown: bool) -> None:
    drawn = dictionary_parts._parent({"parent_dictionary_id": parent})
    assert ("pico-a/x/topk-s0-00000001" in " ".join(words(part) for pair in drawn for part in pair)) is shown


def test_the_header_names_the_floors_of_fvu() -> None:
    row = {"architecture": "topk", "origin": "trained", "d_sae": 8, "fvu": 0.1, "l0": 4.0, "verified": True}
    row |= {"fvu_control": ROW["control"], "fvu_frozen_decoder": 0.3, "fvu_random_model": 1.8}
    floors = "PCA 0.200, random 0.900, frozen decoder 0.300, random weights 1.80"
    assert dictionary_parts.summary(row) == f"topk, 8 features, FVU 0.100 ({floors}), L0 4.00"


def test_variants_stand_in_the_order_of_people() -> None:
    rows = [{**ROW, "metric": "accuracy_kept", "variant": f"kind:m{m}"} for m in (1, 16, 2)]
    assert [line.key[1] for line in measures.lines(rows, measures.SUITES)] == [
        "kind:m1",
        "kind:m2",
        "kind:m16",
    ]
