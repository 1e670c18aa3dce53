"""Features that side b silences: planted ones that are still there, ones that are gone, and shuffled ones."""

import numpy as np
import pytest

from tasks.observing.config import ModelsComparison
from tasks.observing.model_shifts import model_shifts
from tasks.observing.top_contexts import TopContexts
from tests.tasks.observing.sets import SetInMemory, identity_dictionary

N, T, L = 60, 25, 16
KEPT, GONE, RARE = 15, 14, 0
NONE = TopContexts(*(np.zeros(0, dtype=np.int64) for _ in range(4)))


@pytest.fixture
def x_a() -> np.ndarray:
    """(N, T, L): features that fire on 0.3 % to 60 % of tokens."""
    rng = np.random.default_rng(0)
    fires = rng.random((N, T, L)) < np.linspace(0.003, 0.6, L)
    fires[:6, 0, RARE] = True
    return np.where(fires, rng.exponential(1, (N, T, L)), -rng.random((N, T, L))).astype(np.float32)


@pytest.fixture
def x_b(x_a: np.ndarray) -> np.ndarray:
    """Feature 15 is pushed below zero and keeps its information; 14 and 0 become noise below zero."""
    x = x_a.copy()
    x[..., KEPT] -= 50
    noise = np.random.default_rng(1).random((N, T, 2)).astype(np.float32)
    x[..., [GONE, RARE]] = -1 - noise
    return x


def rows_of(x_a: np.ndarray, x_b: np.ndarray, **fields: int) -> tuple[dict[int, dict], dict]:
    config = ModelsComparison(a="base", b="tuned", **fields)
    sets = (SetInMemory(x_a), SetInMemory(x_b))
    found = model_shifts(identity_dictionary(L), sets, (NONE, NONE), config, follows_stream=True)
    return {row["feature_index"]: row for row in found.table.to_pylist()}, dict(found.facts)


def test_a_silenced_feature_is_told_from_one_that_is_gone(x_a: np.ndarray, x_b: np.ndarray) -> None:
    rows, facts = rows_of(x_a, x_b)
    assert {f for f, row in rows.items() if row["is_silent"]} == {KEPT, GONE, RARE}
    assert (rows[KEPT]["revived"], rows[GONE]["revived"]) == (True, False)
    assert rows[KEPT]["probe_auroc"] > 0.95
    assert rows[GONE]["probe_auroc"] < 0.65
    assert rows[KEPT]["probe_null"] < 0.65
    assert rows[RARE]["revived"] is None, "too few tokens decide"
    assert all(rows[f]["revived"] is None for f in range(1, GONE)), "what fires on b needs no probe"
    assert (facts["n_silent"], facts["n_revived"]) == (3, 1)


def test_the_information_of_other_tokens_revives_nothing(x_a: np.ndarray, x_b: np.ndarray) -> None:
    """The same numbers on side b, on shuffled tokens."""
    flat = x_b.reshape(-1, L)
    flat[:, KEPT] = np.random.default_rng(2).permutation(flat[:, KEPT])
    rows, facts = rows_of(x_a, x_b)
    assert rows[KEPT]["revived"] is False
    assert facts["n_revived"] == 0


def test_no_probe_where_nothing_is_silent(x_a: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the text is read once more only for silent features")

    monkeypatch.setattr("tasks.observing.revived.paired_blocks", refuse)
    rows, facts = rows_of(x_a, x_a.copy())
    assert (facts["n_silent"], facts["n_revived"]) == (0, 0)
    assert not any(row["is_silent"] for row in rows.values())


def test_the_result_does_not_depend_on_the_blocks(
    x_a: np.ndarray, x_b: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rows_of(x_a, x_b)[0][KEPT]["probe_auroc"]
    monkeypatch.setattr("tasks.observing.paired_sums._SEGMENTS_AT_ONCE", 90)
    assert rows_of(x_a, x_b)[0][KEPT]["probe_auroc"] == pytest.approx(whole)
