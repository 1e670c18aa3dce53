"""`match-models` matches two lists of dictionaries of the catalogue, and refuses wrong lists at once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog.connection import connect
from catalog.errors import UserError
from flows import match_models as module
from flows.match_models import match_models
from tests.tasks.stages.test_stage_identity import Bench
from tests.tasks.support.test_catalogued import store

HERE = "pico-b/*-s0"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A catalogue with two dictionaries of other seeds, and the stage without an engine around it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "match_features", module.match_features.fn)
        yield Bench(tmp_path_factory.mktemp("lists") / "catalogue")


def matched(root: Path, **parameters: Any) -> dict[str, Any]:
    return match_models.fn("demo", str(root), matchers=["decoder_cosine"], **parameters)


def test_two_lists_are_matched_after_a_forecast_and_then_found(bench: Bench) -> None:
    root = bench.context.root
    summary = matched(root, first=[HERE], second=["pico-b/*"])
    (forecast,) = summary["forecast"]
    assert forecast.startswith("match_features: 1 pair with decoder_cosine; 1 pair to match, for an unknown")
    assert (summary["n_recomputed"], summary["failures"]) == (1, [])
    with connect(root) as connection:
        query = "select distinct dictionary_a, dictionary_b, method from matches"
        (row,) = connection.execute(query).fetchall()
    assert row == (*(one.facts["dictionary_id"] for one in (bench.trained, bench.second)), "decoder_cosine")
    again = matched(root, first=[HERE], second=["pico-b/*-s1"])
    assert (again["n_recomputed"], again["n_found"]) == (0, 1)
    assert again["forecast"] == ["match_features: 1 pair with decoder_cosine, 1 in the catalogue"]
    turned = matched(root, first=["pico-b/*-s1"], second=[HERE])
    assert (turned["n_recomputed"], turned["n_found"]) == (0, 1), "the same pair in the other order"
    assert turned["forecast"] == again["forecast"]
    forced = matched(root, first=[HERE], second=["pico-b/*-s1"], force=True)
    assert "1 pair to match, in about " in forced["forecast"][0]
    assert forced["n_recomputed"] == 1


def runs(root: Path) -> int:
    with connect(root) as connection:
        (row,) = connection.execute("select count(*) from runs").fetchall()
    return int(row[0])


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"first": [HERE]}, "needs two lists of dictionaries"),
        ({"matchers": ["decoder_cosine"]}, "needs two lists of dictionaries"),
        ({"first": [HERE], "second": ["pico-c/*"]}, r"matches 'pico-c/\*'; close names are pico-b/"),
        ({"first": [HERE], "second": [HERE], "matchers": ["sine"]}, "no matcher 'sine'; known: activation_"),
        ({"first": [HERE], "second": [HERE]}, "activation_correlation can compare no pair of the two lists"),
        ({"first": ["*"], "second": ["*"], "overrides": ["match=[]"]}, "'demo' has no matcher: name some"),
    ],
    ids=["one list", "no list", "nothing", "matcher", "no pair", "no matcher"],
)
def test_a_wrong_request_is_one_sentence_and_leaves_nothing(
    bench: Bench, parameters: dict[str, Any], words: str
) -> None:
    before = runs(bench.context.root)
    with pytest.raises(UserError, match=words) as refused:
        match_models.fn("demo", str(bench.context.root), **parameters)
    assert "\n" not in str(refused.value)
    assert runs(bench.context.root) == before


def test_more_than_a_thousand_pairs_need_a_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.pair_limit.MOST_PAIRS", 2)
    for name in "abc":
        store(tmp_path, f"pico-a/x/{name}")
    with pytest.raises(UserError, match=r"up to 3 pairs .* by the lists first .* pass --yes"):
        matched(tmp_path, first=["*/a", "*/b"], second=["*/[ab]", "*/c", "*"])
