"""The kind of score that stands beside a label when scorers give several."""

from pathlib import Path
from types import ModuleType

from catalog import queries
from catalog.connection import connect
from catalog.slices import SliceWrite
from catalog.store import publish_rows

HEADLINES = "select explanation_id, metric, score from explanation_scores order by 1"


def test_the_headline_is_balanced_accuracy_else_auroc_else_correlation_of_the_first_scorer(
    tmp_path: Path, small: ModuleType
) -> None:
    """A later scorer with a better kind of score, and a later metric with a higher value, change nothing."""
    cases = {
        "both": [("auroc", 0, 0.9), ("balanced_accuracy", 0, 0.6), ("recall", 0, 1.0)],
        "ranked": [("auroc", 0, 0.7), ("correlation", 0, 0.9), ("balanced_accuracy", 1, 0.8)],
        "simulated": [("correlation", 0, -0.2), ("auroc", 1, 0.8)],
        "neither": [("recall", 0, 0.9)],
    }
    rows = [
        small.score(name, "mixed", value) | {"metric": metric, "scorer": f"s{place}", "position": place}
        for name, scores in cases.items()
        for metric, place, value in scores
    ]
    root = tmp_path / "catalogue"
    publish_rows(root, [SliceWrite("scores", "d", small.table("scores", rows))], fingerprint="s")
    key = {"dictionary_id": small.DICTIONARY, "feature_index": 0}
    with connect(root) as connection:
        found = connection.execute(HEADLINES).fetchall()
        shown = queries.feature_scores(**key).read(connection).to_pylist()
    assert found == [
        ("both", "balanced_accuracy", 0.6),
        ("ranked", "auroc", 0.7),
        ("simulated", "correlation", -0.2),
    ]
    marked = {(row["explanation_id"], row["metric"]) for row in shown if row["is_headline"]}
    assert marked == {(name, metric) for name, metric, _ in found}
