"""Associations against scipy on dense tables, planted ones, and shuffled labels."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import false_discovery_control, fisher_exact, mannwhitneyu

from tasks.observing.associations import associate
from tasks.observing.config import AssociationsConfig
from tasks.observing.documents import FiringBlock, label_columns

N = 160
CONFIG = AssociationsConfig()


def topics(n: int, seed: int = 0) -> np.ndarray:
    names = np.array(["code", "prose", "tables", None], dtype=object)
    return np.random.default_rng(seed).choice(names, n, p=[0.5, 0.3, 0.1, 0.1])


def table_of(blocks: list[FiringBlock], labels: dict, tokens_G: np.ndarray, config=CONFIG) -> pa.Table:
    return pa.Table.from_batches(associate(blocks, labels, tokens_G, config).batches)


def test_figures_equal_those_of_dense_tables(make) -> None:
    block_of, drawn = make
    max_GL, topic_G = drawn(N, 40), topics(N)
    tokens_G = np.where(np.arange(N) % 20 == 3, 0, 50)
    max_GL[tokens_G == 0] = 0
    found = table_of([block_of(max_GL)], {"topic": topic_G}, tokens_G).to_pylist()
    known = (tokens_G > 0) & np.array([t is not None for t in topic_G])
    x_GL, topic = max_GL[known], topic_G[known]
    expected = [(f, v) for f in range(40) if (x_GL[:, f] > 0).sum() >= 5 for v in ("code", "prose", "tables")]
    assert [(row["feature_index"], row["value"]) for row in found] == expected
    for row in found:
        x, has = x_GL[:, row["feature_index"]], topic == row["value"]
        fires = x > 0
        u = mannwhitneyu(x[has], x[~has]).statistic
        assert row["auroc"] == pytest.approx(u / (has.sum() * (~has).sum()), rel=1e-9)
        counts = (row["n_documents"], row["n_value"], row["n_firing"], row["n_both"])
        assert counts == (known.sum(), has.sum(), fires.sum(), (fires & has).sum())
        p = [fisher_exact(np.histogram2d(fires, has, 2)[0]).pvalue]
        if 0 < (fires & has).sum() < fires.sum() and fires.sum() >= 8:
            p.append(mannwhitneyu(x[fires & has], x[fires & ~has], method="asymptotic").pvalue)
        # The two-sided p of scipy adds the tails by their probability, this one doubles the smaller.
        assert min(1.0, min(p)) <= row["p_value"] * 1.001
        assert row["p_value"] <= min(1.0, 4.5 * min(p))
    q = false_discovery_control([row["p_value"] for row in found])
    np.testing.assert_allclose([row["q_value"] for row in found], q, rtol=1e-9)


def test_blocks_of_features_do_not_matter(make, monkeypatch: pytest.MonkeyPatch) -> None:
    block_of, drawn = make
    whole = block_of(drawn(N, 40))
    parts = [
        FiringBlock(*(column[(first <= whole.feature_R) & (whole.feature_R < first + 7)] for column in whole))
        for first in range(0, 40, 7)
    ]
    labels, tokens_G = {"topic": topics(N), "kind": topics(N, 1)}, np.ones(N, dtype=int)
    at_once = table_of([whole], labels, tokens_G)
    monkeypatch.setattr("tasks.observing.associations._ROWS_OF_A_BATCH", 20)
    in_parts = table_of(parts, labels, tokens_G)
    assert in_parts.drop(["mi_ratio"]).equals(at_once.drop(["mi_ratio"]))
    np.testing.assert_allclose(*(np.array(t["mi_ratio"], dtype=float) for t in (in_parts, at_once)))
    keys = [tuple(row[n] for n in ("feature_index", "label", "value")) for row in at_once.to_pylist()]
    assert keys == sorted(set(keys))


def test_a_feature_tied_to_a_value_comes_first(make) -> None:
    """One feature by where it fires, one by how strongly; a third fires everywhere alike."""
    block_of, drawn = make
    rng, topic_G = np.random.default_rng(3), topics(N)
    max_GL = drawn(N, 200)
    prose = topic_G == "prose"
    max_GL[:, 7] = np.where(rng.random(N) < np.where(prose, 0.8, 0.05), 1.0 + rng.random(N), 0)
    max_GL[:, 9] = 1.0 + rng.random(N) + prose
    max_GL[:, 11] = 2.0
    rows = table_of([block_of(max_GL)], {"topic": topic_G}, np.ones(N, dtype=int)).to_pylist()
    rows.sort(key=lambda row: row["p_value"])
    assert {row["feature_index"] for row in rows[:2]} == {7, 9}
    assert all(row["value"] == "prose" and row["q_value"] < 1e-6 and row["auroc"] > 0.8 for row in rows[:2])
    by_key = {(row["feature_index"], row["value"]): row for row in rows}
    assert by_key[7, "prose"]["mi_ratio"] > 10
    assert by_key[9, "prose"]["mi_ratio"] is None
    same = by_key[11, "prose"]
    assert (same["auroc"], same["p_value"], same["mi_ratio"]) == (0.5, 1.0, None)
    assert 0.5 < np.mean([r["mi_ratio"] for r in rows if r["mi_ratio"] and r["feature_index"] > 11]) < 1.5


def test_shuffled_documents_are_associated_with_nothing(make) -> None:
    block_of, drawn = make
    max_GL, topic_G = drawn(400, 300, seed=5), topics(400)
    shares = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(400)
        found = associate([block_of(max_GL[order])], {"topic": topic_G}, np.ones(400, dtype=int), CONFIG)
        shares.append(found.n_found / found.n_tests)
    assert np.mean(shares) <= 0.05
    assert max(shares) <= 0.05


def test_labels_that_say_nothing_are_skipped_with_a_reason(make) -> None:
    block_of, drawn = make
    block = block_of(drawn(60, 10))
    labels = {
        "constant": np.full(60, "a", dtype=object),
        "empty": np.full(60, None, dtype=object),
        "name": np.array([f"d{i}" for i in range(60)], dtype=object),
        "rare": np.array(["x"] * 57 + ["y"] * 3, dtype=object),
    }
    found = associate([block], labels, np.ones(60, dtype=int), CONFIG)
    assert found.skipped == [
        "label constant has one value, a, in the documents of the set",
        "label empty has no value, in the documents of the set",
        "label name has 60 values, more than 50",
        "value y of label rare has 3 documents, fewer than 5",
    ]
    assert {row["value"] for row in pa.Table.from_batches(found.batches).to_pylist()} == {"x"}
    nothing = associate([block], {"constant": labels["constant"]}, np.ones(60, dtype=int), CONFIG)
    assert (list(nothing.batches), nothing.n_tests) == ([], 0)
    only = associate([block], labels, np.ones(60, dtype=int), AssociationsConfig(labels=("rare",)))
    assert len(only.skipped) == 1


def test_label_columns_of_a_map() -> None:
    kind = pa.map_(pa.string(), pa.string())
    labels = pa.chunked_array([pa.array([[("a", "1")], None, [("b", "2"), ("a", None)]], kind)])
    columns = {name: column.tolist() for name, column in label_columns(labels).items()}
    assert columns == {"a": ["1", None, None], "b": [None, None, "2"]}
