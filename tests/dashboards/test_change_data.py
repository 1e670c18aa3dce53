"""The page "What changed": which comparison it shows, and what it says of the features."""

from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from catalog import queries
from catalog.errors import UserError
from dashboards import change_data, data
from dashboards.components import change_parts
from dashboards.selection import ChangeSelection


@pytest.fixture
def rows(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> list[data.Row]:
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
    return data.rows(data.current(), queries.comparisons())


def test_the_address_names_a_comparison(rows: list[data.Row]) -> None:
    assert [row["kind"] for row in rows] == ["labels", "models"]
    assert change_data.chosen(rows, ChangeSelection()) is rows[0]
    named = ChangeSelection.from_url({"comparison": "models pico-a | pico-b", "a": str(rows[1]["set_a"])})
    assert change_data.chosen(rows, named) is rows[1]
    with pytest.raises(UserError, match="has no such comparison"):
        change_data.chosen(rows, ChangeSelection(dictionary="other"))


def test_the_headline_and_the_features_that_changed_stand_first(rows: list[data.Row]) -> None:
    found = change_data.gather(data.current(), rows[1])
    assert (found.row["n_features"], found.row["n_changed"]) == (160, 4)
    assert [shift["feature_index"] for shift in found.shifts[:4]] == [0, 1, 2, 3]
    assert {one["measure"] for one in found.spread} == {"pearson", "jaccard", "effect"}
    for measure in ("pearson", "jaccard", "effect"):
        bins = [one for one in found.spread if one["measure"] == measure]
        assert (len(bins), sum(one["n"] for one in bins)) == (20, 160)
        assert all(low["high"] <= high["low"] + 1e-9 for low, high in pairwise(bins))
    shown = [int(shift["feature_index"]) for shift in found.shifts[: change_data.CONTEXTS_SHOWN]]
    assert set(found.contexts) == {(index, side) for index in shown for side in "ab"}
    drawn = str([*change_parts.headline(found), change_parts.shifts(found)])
    for words in ("4 of 160", "Overlap of firing", "pico-a on", "+2.50", "a: "):
        assert words in drawn


def test_a_silent_feature_is_gone_only_where_a_probe_does_not_find_it(rows: list[data.Row]) -> None:
    found = change_data.gather(data.current(), rows[1])
    headline = str(list(change_parts.headline(found)))
    assert "3: 1 still decodable, 1 not" in headline
    said = [str(change_parts.silence(shift)) for shift in found.shifts[:4]]
    assert said[0] == "None"
    assert "silent, still decodable" in said[1]
    assert "AUROC 0.97, shuffled 0.55" in said[1]
    assert "silent, gone" in said[2]
    assert "silent, undecided" in said[3]
    assert "silent, partly decodable" in str(change_parts.silence({**found.shifts[2], "probe_auroc": 0.8}))
    assert rows[0]["n_silent"] is None, "two groups of documents have one model"


def test_a_context_of_a_label_comes_from_a_document_with_its_value(
    rows: list[data.Row], synthetic: ModuleType
) -> None:
    found = change_data.gather(data.current(), rows[0])
    assert {side for _, side in found.contexts} == {"a"}, "no document is prose"
    drawn = str(change_parts.shifts(found))
    assert "b: no context" in drawn
    assert str(change_parts.comparisons(rows, rows[0])).count("('aria-current', 'true')") == 1
