"""The score beside a label is the one named in advance: several scorers and explanations raise nothing."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catalog.connection import connect
from catalog.slices import SliceWrite
from catalog.store import publish_rows
from tests.catalog import small
from tests.tasks.autointerp.null_judges import JUDGES, headline_rows, rows_of

N = 400
SCORERS = ("predicate", "detection", "fuzzing")
EXPLAINERS = ("lexical", "contexts")


def rows_by_a_coin(explainer: int, scorer: int) -> list[dict[str, Any]]:
    """Scores of one explanation per feature by one scorer that knows nothing."""
    rows = headline_rows(rows_of(JUDGES["coin"], N, seed=10 * explainer + scorer))
    ids = {"dictionary_id": small.DICTIONARY, "activation_set_id": small.SET}
    scored = {"scorer": SCORERS[scorer], "judge": "none", "seed": 0, "position": scorer}
    return [
        {
            **ids,
            **scored,
            **row,
            "explanation_id": f"{EXPLAINERS[explainer]}-{row['feature_index']}",
            "created_at": small.NOW + timedelta(hours=scorer),
        }
        for row in rows
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two explanations per feature, each scored by three scorers that toss coins."""
    root = tmp_path_factory.mktemp("headline") / "catalogue"
    explanations = [
        {
            **row,
            "explanation_id": f"{name}-{row['feature_index']}",
            "explainer": name,
            "text": name,
            "position": place,
        }
        for place, name in enumerate(EXPLAINERS)
        for row in small.explanations(n=N).to_pylist()
    ]
    scores = [row for e in range(2) for s in range(3) for row in rows_by_a_coin(e, s)]
    slices = [
        SliceWrite("features", "d", small.features(n=N)),
        SliceWrite("explanations", "d", small.table("explanations", explanations)),
        SliceWrite("scores", "d", small.table("scores", scores)),
    ]
    publish_rows(root, slices, fingerprint="coins")
    return root


def share(root: Path, sql: str) -> float:
    with connect(root) as connection:
        (value,) = connection.execute(sql).fetchone() or (None,)
    return float(value)


def test_the_headline_of_many_coins_is_above_chance_as_often_as_one_coin(root: Path) -> None:
    most = 0.025 + 3 * math.sqrt(0.025 * 0.975 / N)
    assert share(root, "select count(*) from feature_cards where score is not null") == N
    assert share(root, "select avg(above_chance::integer) from feature_cards") <= most
    assert share(root, "select avg(above_chance::integer) from explanation_scores") <= most
    best = """select avg(above::integer)
        from (select bool_or(above_chance) as above from scores group by feature_index)"""
    assert share(root, best) > 2 * most, "the best of six would be far above"


def test_labels_and_scorers_are_those_that_come_first_in_the_pipeline(root: Path) -> None:
    with connect(root) as connection:
        cards = connection.execute("select distinct label, explainer, scorer from feature_cards").fetchall()
        ranked = connection.execute("select distinct scorer from explanation_scores").fetchall()
    assert cards == [("lexical", "lexical", "predicate")]
    assert ranked == [("predicate",)]
    assert np.isclose(share(root, "select avg(score) from feature_cards"), 0.5, atol=0.02)
