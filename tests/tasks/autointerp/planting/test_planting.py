"""Planted features on the standard library: whole texts, rules that hold, disjoint halves."""

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.autointerp.planting.evidence import LEAST_FIRING, plant, planted_evidence
from tasks.autointerp.planting.families import FAMILIES
from tasks.autointerp.planting.passages import WINDOW, Passages, cut, split_text

LIMITS = {"firing": 6, "random": 4, "neighbour": 3}


@pytest.fixture(scope="module")
def passages() -> Passages:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return cut([(path.name, path.read_text("utf-8")) for path in sorted(folder.glob("[a-d]*.py"))[:40]])


@given(st.text())
def test_tokens_joined_are_the_text(text: str) -> None:
    assert "".join(split_text(text)) == text


def test_every_family_is_planted_with_enough_passages_of_both_kinds(passages: Passages) -> None:
    planted = plant(passages, 2)
    assert {one.family for one in planted} == set(FAMILIES)
    assert len({one.label for one in planted}) == len(planted)
    for one in planted:
        for split in ("explain", "score"):
            fires = [any(one.mask(p.tokens)) for p in passages.all if p.split == split]
            assert min(sum(fires), len(fires) - sum(fires)) >= LEAST_FIRING


def test_evidence_has_what_mining_would_have_found(passages: Passages) -> None:
    planted = plant(passages, 1)
    for one, evidence in zip(planted, planted_evidence(passages, planted, LIMITS), strict=True):
        for split in ("explain", "score"):
            counts = {band: len(evidence.rows(split, (band,))) for band in ("top", "random", "neighbour")}
            assert (counts["top"], counts["random"]) == (LIMITS["firing"], LIMITS["random"]), one
        explained, scored = (
            set(evidence.windows.document_W[evidence.split_W == split]) for split in ("explain", "score")
        )
        assert not explained & scored
        for row in range(len(evidence.band_W)):
            tokens = evidence.windows.tokens(row)
            assert len(tokens) == WINDOW
            assert (evidence.windows.activations(row) > 0).tolist() == one.mask(tokens)
            assert any(one.mask(tokens)) == (evidence.band_W[row] == "top")
            assert one.is_near(tokens) or evidence.band_W[row] != "neighbour"


def test_the_same_text_and_seed_plant_the_same_features(passages: Passages) -> None:
    first, second, other = (plant(passages, 2, seed) for seed in (0, 0, 1))
    assert [one.label for one in first] == [one.label for one in second]
    assert [one.label for one in first] != [one.label for one in other]


def test_a_text_without_a_family_goes_without_it() -> None:
    numbers = np.random.default_rng(0)
    text = " ".join("word" if numbers.random() < 0.5 else "other" for _ in range(2_000))
    families = {one.family for one in plant(cut([("a", text), ("b", text)]), 1)}
    assert "number" not in families
    assert "casing" not in families
    assert plant(cut([]), 1) == []
