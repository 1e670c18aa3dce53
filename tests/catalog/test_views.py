"""What the derived views say, on rows whose answer is known."""

from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import catalog
from catalog import queries
from catalog.connection import connect
from catalog.relations import derived_views
from catalog.slices import SliceWrite
from catalog.store import publish_rows


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    """Feature 0 has a lucky, a solid and a failed explanation, the solid one first in the pipeline."""
    root = tmp_path_factory.mktemp("views") / "catalogue"
    small.do_stage(root)
    base = small.explanations(n=1).to_pylist()[0]
    explanations = [
        {**base, "explanation_id": "lucky", "text": "lucky word", "explainer": "contexts", "position": 1},
        {**base, "explanation_id": "solid", "text": "solid words", "explainer": "other", "position": 0},
        {**base, "explanation_id": "failed", "text": None, "status": "error", "error": "no answer"}
        | {"position": 0},
    ]
    scores = [
        small.score("lucky", "random", 0.99),
        small.score("lucky", "neighbour", 0.95),
        small.score("solid", "random", 0.9),
        small.score("solid", "neighbour", 0.5, seed=1),
        small.score("solid", "neighbour", 0.8, created_at=small.NOW + timedelta(hours=1)),
        small.score("solid", "neighbour", 0.95, metric="recall"),
        small.score("solid", "neighbour", 0.99, scorer="detection", judge="m", position=1),
    ]
    other = "pico-b/blocks.1.resid_post/topk-x8-k32-s0-22222222"
    pairs = [
        {
            "dictionary_a": small.DICTIONARY,
            "feature_a": 0,
            "dictionary_b": other,
            "feature_b": partner,
            "method": "activation_correlation",
            "activation_sets": "a | b",
            "score": 0.9 - partner / 10,
            "rank": partner,
            "mutual": partner == 0,
            "n": 10,
            "verdict": "same",
        }
        for partner in (0, 1)
    ]
    failed = small.table("explanations", [{**explanations[2], "created_at": small.NOW + timedelta(hours=2)}])
    publish_rows(
        root,
        [
            SliceWrite("explanations", "d", small.table("explanations", explanations[:2])),
            SliceWrite("explanations", "late", failed),
            SliceWrite("scores", "d", small.table("scores", scores)),
            SliceWrite("matches", "pair", small.table("matches", pairs)),
            SliceWrite("dictionaries", other, small.dictionary(other)),
        ],
        fingerprint="more",
    )
    return root


def ask(root: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(root) as connection:
        return connection.execute(sql).fetchall()


def test_every_view_can_be_read_on_an_empty_catalogue(tmp_path: Path) -> None:
    for name, _ in derived_views():
        assert ask(tmp_path, f"select count(*) from {name}") == [(0,)]


def test_label_and_headline_are_named_by_the_pipeline_and_not_by_their_scores(filled: Path) -> None:
    """Higher scores of another explanation, scorer or kind of negatives change nothing."""
    (row,) = ask(
        filled,
        "select label, explanation_id, variant, score, ci_low, chance, n_judged, n_explanations, n_matches, "
        "alias, model_id, hookpoint from feature_cards where feature_index = 0",
    )
    assert row[:3] == ("solid words", "solid", "neighbour")
    assert row[3:7] == pytest.approx((0.8, 0.7, 0.5, 40))
    assert row[7:9] == (3, 1)
    assert row[9:] == ("pico-a/blocks.2.resid_post/topk-x8-k32-s0", "pico-a", "blocks.2.resid_post")


def test_above_chance_is_stored_and_of_older_scores_decided_where_it_can_be(
    root: Path, small: ModuleType
) -> None:
    """A judge's single shuffled label says nothing; chance below a half is no chance."""
    older: dict[str, Any] = {"above_chance": None, "n_donors": None, "position": None}
    cases = [
        ({"above_chance": False, "n_donors": 30}, False),
        ({"above_chance": None, "n_donors": 3}, None),
        ({**older, "ci_low": 0.6}, True),
        ({**older, "ci_low": 0.4, "chance": 0.25}, False),
        ({**older, "ci_low": 0.9, "judge": "m"}, None),
    ]
    rows = [small.score(str(i), "neighbour", 0.95) | given for i, (given, _) in enumerate(cases)]
    publish_rows(root, [SliceWrite("scores", "d", small.table("scores", rows))], fingerprint="s")
    found = ask(root, "select above_chance from explanation_scores order by explanation_id")
    assert [value for (value,) in found] == [expected for _, expected in cases]


def test_a_score_that_lost_its_interval_does_not_keep_the_old_one(root: Path, small: ModuleType) -> None:
    """The newest row counts as a whole: its nulls are not filled from the row before."""
    later = {"created_at": small.NOW + timedelta(hours=1), "seed": 1, "ci_low": None, "above_chance": None}
    rows = [small.score("a", "mixed", 0.9), small.score("a", "mixed", 0.6) | later]
    publish_rows(root, [SliceWrite("scores", "d", small.table("scores", rows))], fingerprint="s")
    assert ask(root, "select value, ci_low, above_chance from latest_scores") == [(0.6, None, None)]


def test_labels_above_chance_stand_beside_those_of_random_directions(root: Path, small: ModuleType) -> None:
    """On the same activations: of two such dictionaries the one nearest in width; none for itself."""
    from catalog.queries import dictionaries

    names = {
        "topk": (small.DICTIONARY, 8, [True, True, True, False]),
        "near": ("m/h/random-x1-00000001", 8, [True, False, False, False]),
        "far": ("m/h/random-x9-00000002", 64, [True, True, True, True]),
    }
    slices = small.models()
    for name, (dictionary_id, width, above) in names.items():
        architecture = "topk" if name == "topk" else "random_directions"
        labelled = small.explanations(dictionary_id=dictionary_id).to_pylist()
        labelled = [{**row, "explanation_id": f"{name}-{row['feature_index']}"} for row in labelled]
        scores = [
            small.score(f"{name}-{i}", "neighbour", 0.7, above_chance=is_above)
            | {"dictionary_id": dictionary_id, "feature_index": i}
            for i, is_above in enumerate(above)
        ]
        made = small.dictionary(dictionary_id, architecture=architecture, d_sae=width)
        slices += [
            SliceWrite("dictionaries", dictionary_id, made),
            SliceWrite("features", dictionary_id, small.features(dictionary_id=dictionary_id)),
            SliceWrite("explanations", dictionary_id, small.table("explanations", labelled)),
            SliceWrite("scores", dictionary_id, small.table("scores", scores)),
        ]
    publish_rows(root, slices, fingerprint="s")
    with connect(root) as connection:
        rows = {row["dictionary_id"]: row for row in dictionaries().read(connection).to_pylist()}
    near, far = names["near"][0], names["far"][0]
    shown = {key: (row["random_dictionary_id"], row["random_above_share"]) for key, row in rows.items()}
    assert shown == {small.DICTIONARY: (near, 0.25), near: (far, 1.0), far: (near, 0.25)}
    assert rows[small.DICTIONARY]["n_above_chance"] == 3
    counted = "select * exclude (median_score) from label_quality"
    quality = ask(root, f"{counted} where dictionary_id = '{small.DICTIONARY}'")
    assert quality == [(small.DICTIONARY, small.SET, 4, 4, 4, 3, 0, None, 0.75, 0.25, near, 4, 4, 0, 0, 0)]


def test_scores_of_other_settings_are_not_mixed(root: Path, small: ModuleType) -> None:
    """The unit that landed last counts as a whole, in views and on the page, whatever its clock said."""
    older = [small.score("a", variant, 0.9) for variant in ("neighbour", "random", "mixed")]
    newer = [
        small.score("a", variant, 0.6) | {"created_at": small.NOW - timedelta(hours=1)}
        for variant in ("random", "mixed")
    ]
    item = {name: older[0][name] for name in ("explanation_id", "dictionary_id", "activation_set_id")}
    item |= {"feature_index": 0, "scorer": "predicate", "judge": "none", "seed": 0, "band": "top", "rank": 0}
    for fingerprint, scores in (("f" * 64, older), ("0" * 64, newer)):
        answered = fingerprint == "0" * 64
        judged = [{**item, "item": i, "truth": True, "answer": answered} for i in range(3)]
        tables = {"scores": scores, "judgements": judged}
        writes = [SliceWrite(name, "d", small.table(name, rows)) for name, rows in tables.items()]
        publish_rows(root, writes, fingerprint=fingerprint)
    assert ask(root, "select variant, value from latest_scores order by 1") == [
        ("mixed", 0.6),
        ("random", 0.6),
    ]
    assert ask(root, "select variant, score from explanation_scores") == [("mixed", 0.6)]
    key = {"dictionary_id": small.DICTIONARY, "feature_index": 0}
    with connect(root) as connection:
        shown = queries.feature_scores(**key).read(connection)["value"].to_pylist()
        items = queries.feature_judgements(explanation_id="a", **key).read(connection)
    assert (shown, items["answer"].to_pylist()) == ([0.6, 0.6], [True, True, True])


def test_an_unscored_label_is_shown_without_a_score(filled: Path) -> None:
    assert ask(filled, "select label, score, n_matches from feature_cards where feature_index = 1") == [
        ("word 1 of generation 0", None, 0)
    ]
    assert ask(filled, "select count(*) from feature_cards") == [(4,)]


def test_the_latest_attempt_of_an_explainer_may_be_a_failure(filled: Path) -> None:
    rows = ask(
        filled, "select explainer, text, status from latest_explanations where feature_index = 0 order by 1"
    )
    assert rows == [
        ("contexts", "lucky word", "ok"),
        ("lexical", None, "error"),
        ("other", "solid words", "ok"),
    ]


def test_mutual_matches_name_both_labels(filled: Path) -> None:
    assert ask(filled, "select feature_a, label_a, feature_b, label_b from mutual_matches") == [
        (0, "solid words", 0, None)
    ]


def test_changes_say_what_was_added_changed_and_superseded(root: Path, small: ModuleType) -> None:
    publish_rows(root, [SliceWrite("runs", "run-1", small.run())], fingerprint="r")
    small.do_stage(root, 0, run_id="run-0")
    small.do_stage(root, 1, run_id="run-1")
    rows = ask(
        root,
        "select run_id, in_last_run, change, rows from changes where table_name = 'features' "
        "order by committed_at",
    )
    assert rows == [("run-0", False, "superseded", 4), ("run-1", True, "changed", 4)]
    added = ask(root, "select distinct change from changes where table_name = 'explanations'")
    assert added == [("added",)]


def test_match_rates_have_the_floor_beside_the_share_and_control_over_all_pairs(
    root: Path, small: ModuleType
) -> None:
    def pair(other: str, feature: int, p_value: float, verdict: str, floor: bool) -> dict[str, Any]:
        return {
            "dictionary_a": small.DICTIONARY,
            "feature_a": feature,
            "dictionary_b": other,
            "feature_b": feature,
            "method": "activation_correlation",
            "activation_sets": "a | b",
            "score": 0.8,
            "rank": 0,
            "mutual": True,
            "n": 10,
            "p_value": p_value,
            "q_value": p_value,
            "verdict": verdict,
            "same_above": 0.7,
            "floor_score": 0.3,
            "floor_same": floor,
        }

    p_values = {"b": [0.01, 0.02, 0.5], "c": [0.03, 0.9]}
    rows = [
        pair(other, feature, p, "same" if p < 0.05 else "unmatched", floor=feature == 1)
        for other, family in p_values.items()
        for feature, p in enumerate(family)
    ]
    publish_rows(root, [SliceWrite("matches", "pairs", small.table("matches", rows))], fingerprint="m")
    found = ask(
        root,
        "select dictionary_b, n_features, n_same, share_same, floor_share_same, n_same_in_family, n_family, "
        "largest_family_q_value from match_rates order by 1",
    )
    # Benjamini and Hochberg over 0.01, 0.02, 0.03, 0.5, 0.9: 0.05 = min(5 p_(i) / i) for the first three.
    assert found[0] == ("b", 3, 2, pytest.approx(2 / 3), pytest.approx(1 / 3), 2, 5, pytest.approx(0.05))
    assert found[1] == ("c", 2, 1, 0.5, 0.5, 1, 5, pytest.approx(0.05))


def test_tables_views_and_columns_say_what_they_mean(root: Path, small: ModuleType) -> None:
    import duckdb

    from catalog.schemas import TABLES

    small.do_stage(root)
    columns = "select table_name, column_name, comment from duckdb_columns() where comment is not null"
    views = "select view_name, comment from duckdb_views() where comment is not null"
    meanings = {(spec.name, c.name, c.description) for spec in TABLES.values() for c in spec.columns}
    published = root / "catalogue.duckdb"
    with catalog.connect(root) as direct, duckdb.connect(str(published), read_only=True) as plain:
        for connection in (direct, plain):
            assert set(connection.execute(columns).fetchall()) == meanings
            found = dict(connection.execute(views).fetchall())
            assert set(found) == {*TABLES, *(name for name, _ in derived_views())}
            assert found["current_aliases"].startswith("The dictionary that each alias refers to now")


def test_a_dictionary_that_was_never_compared_has_no_count_of_matches(
    filled: Path, root: Path, small: ModuleType
) -> None:
    small.do_stage(root)
    for catalogue, expected in ((root, None), (filled, 1)):
        with connect(catalogue) as connection:
            rows = queries.dictionaries().read(connection).to_pylist()
        (row,) = (row for row in rows if row["dictionary_id"] == small.DICTIONARY)
        assert row["n_matched"] == expected
