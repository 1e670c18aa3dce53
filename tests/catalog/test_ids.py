"""Ids and settings: what means one thing today means the same tomorrow."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UserError
from catalog.ids import (
    FeatureRef,
    alias_of,
    canonical_json,
    parse_feature,
    slug,
    stage_fingerprint,
    tagged_id,
)
from catalog.settings import catalogue_root
from catalog.slices import slice_name

KNOWN = "3150b4936640a770"


def test_a_fingerprint_is_the_same_for_ever() -> None:
    config = {"k": 32, "lr": 0.001, "hookpoints": ["blocks.2.resid_post"], "seed": None}
    fingerprint = stage_fingerprint("train_dictionary", 1, config, ["a", "b"], ["p"])
    again = stage_fingerprint("train_dictionary", 1, dict(reversed(config.items())), ["a", "b"], ["p"])
    assert fingerprint == again
    assert fingerprint.startswith(KNOWN), "a changed fingerprint makes every catalogue start from nothing"


@pytest.mark.parametrize(
    "other",
    [
        ("explain", 1, {"k": 1}, ["a"], []),
        ("train", 2, {"k": 1}, ["a"], []),
        ("train", 1, {"k": 2}, ["a"], []),
        ("train", 1, {"k": 1}, ["b"], []),
        ("train", 1, {"k": 1}, [], ["a"]),
    ],
)
def test_whatever_decides_the_result_changes_the_fingerprint(other: tuple) -> None:
    assert stage_fingerprint("train", 1, {"k": 1}, ["a"], []) != stage_fingerprint(*other)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_without_a_text_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"lr": number})


SLUG = re.compile(r"[a-z0-9._-]{1,80}-[0-9a-f]{8}")


@given(st.text(), st.text())
def test_slugs_are_safe_and_tell_names_apart(first: str, second: str) -> None:
    assert SLUG.fullmatch(slug(first))
    assert not {"/", " ", "%", "="} & set(slug(first))
    assert (slug(first) == slug(second)) == (first == second)


@given(st.text(max_size=200), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_slices_have_slugs(subject: str, fingerprint: str) -> None:
    assert SLUG.fullmatch(slice_name(subject, fingerprint))
    assert slice_name(subject, fingerprint) != slice_name(subject, fingerprint[::-1] + "0")


def test_a_retrained_dictionary_has_the_alias_and_another_id() -> None:
    alias = "pico-a/blocks.2.resid_post/topk-x8-k32-s0"
    first, second = (tagged_id(alias, digit * 64) for digit in "12")
    assert first != second
    assert alias_of(first) == alias_of(second) == alias
    assert parse_feature(f"{first}#17") == FeatureRef(first, 17)
    assert str(parse_feature(f"{alias}#0")) == f"{alias}#0"


@pytest.mark.parametrize("text", ["", "#1", "a", "a#", "a#-1", "a#1.5", "a#१", "../a#1", "a b#1", "/a#1"])
def test_what_is_no_feature_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_feature(text)
    assert "\n" not in str(caught.value)


def test_the_root_of_the_catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FEATLAS_CATALOG", raising=False)
    monkeypatch.chdir(tmp_path)
    assert catalogue_root() == tmp_path / "catalogue"
    monkeypatch.setenv("FEATLAS_CATALOG", "/data/atlas")
    assert catalogue_root() == Path("/data/atlas")
    assert catalogue_root(f"file://{tmp_path}") == tmp_path
    with pytest.raises(UserError, match="not a local folder"):
        catalogue_root("s3://bucket/atlas")
    with pytest.raises(UserError, match="choose another folder"):
        catalogue_root("/data/[old]*")
