"""The feature page on a set other than the home of the dictionary."""

from pathlib import Path
from types import ModuleType

import pytest

from dashboards import data
from dashboards.components import feature_parts, set_parts
from dashboards.evidence import Evidence, gather
from dashboards.selection import FeatureSelection
from tests.dashboards import observed


def found(synthetic: ModuleType, activation_set: str | None = None) -> Evidence:
    dictionary = synthetic.dictionary_of("pico-a")
    return gather(data.current(), FeatureSelection(dictionary, observed.LABELLED, activation_set))


def test_a_feature_is_shown_on_its_home_and_switches_to_every_other_set(
    catalogue: Path, synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
    home, elsewhere = (synthetic.activation_set_of(model) for model in ("pico-a", "pico-b"))
    first, second = found(synthetic), found(synthetic, elsewhere)
    assert (first.row["activation_set_id"], second.row["activation_set_id"]) == (home, elsewhere)
    assert second.row["density"] == first.row["density"] / 2
    assert [row["is_home"] for row in first.sets] == [True, False]
    shown = feature_parts.label_row(first.explanations), feature_parts.label_row(second.explanations)
    assert [row["text"] == observed.LABEL for row in shown if row] == [False, True]
    assert len(first.examples) == len(second.examples) > 0
    for page, other in ((first, elsewhere), (second, home)):
        drawn = str(set_parts.switch("pico-a-alias", 5, page.row["activation_set_id"], page.sets))
        assert "home" in drawn
        assert "looked at on 2 activation sets" in drawn
        assert other.split("/")[0] in drawn
        assert drawn.count("('aria-current', 'true')") == 1
    assert set_parts.switch("pico-a-alias", 5, home, first.sets[:1]) == []
