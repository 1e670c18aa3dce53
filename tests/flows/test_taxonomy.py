"""The page of unit types, scores and controls says what the registries and tables hold."""

from typing import get_args

import pytest

from catalog.schemas import TABLES, UnitType
from flows import taxonomy
from flows.registries import REGISTRIES
from tasks.autointerp.scorer import SCORERS
from tasks.dictionaries.base import ARCHITECTURES


def test_the_page_is_up_to_date() -> None:
    assert taxonomy.PAGE.read_text("utf-8") == taxonomy.page(), "run `python -m flows.taxonomy`"


def test_everything_that_measures_is_on_the_page() -> None:
    text = taxonomy.PAGE.read_text("utf-8")
    assert set(taxonomy.UNITS) == set(get_args(UnitType))
    kinds = {registry.kind for registry in REGISTRIES}
    assert set(taxonomy.SCORES) == kinds - {"architecture", "corpus source", "format"}
    shown = [r for r in REGISTRIES if r.kind in taxonomy.SCORES or r is ARCHITECTURES]
    missing = [name for registry in shown for name in registry if f"- `{name}`:" not in text]
    assert not missing


def test_a_new_scorer_and_a_new_control_make_the_page_old(monkeypatch: pytest.MonkeyPatch) -> None:
    before = taxonomy.page()
    monkeypatch.setitem(SCORERS._items, "brand_new", SCORERS["predicate"])
    assert "`brand_new`" in taxonomy.page()
    monkeypatch.setattr(ARCHITECTURES["topk"].Config, "is_control", True)
    controls = taxonomy.page().split("### Dictionaries as controls")[1].split("###")[0]
    assert "`topk`" in controls
    assert "`topk`: " not in before.split("### Dictionaries as controls")[1].split("###")[0]


def test_stored_nulls_are_found_by_their_names() -> None:
    found = {(table, column.name) for table, column in taxonomy.controls()}
    assert {("scores", "chance"), ("matches", "floor_score"), ("features", "logit_kurtosis_null")} <= found
    flags = {(table, column.name) for table, column in taxonomy.flags()}
    assert {("feature_neighbours", "confounded"), ("matches", "verdict")} <= flags
    assert all(TABLES[table].column(name).description for table, name in found | flags)
