"""Nearest features against plain numpy."""

import numpy as np
import pytest
import torch

from tasks.mining import nearest
from tasks.mining.nearest import Coactivation, interleave, nearest_by_decoder


def _jaccard(fires_NL: np.ndarray) -> np.ndarray:
    both = fires_NL.T.astype(float) @ fires_NL
    counts = fires_NL.sum(axis=0)
    either = counts[:, None] + counts - both
    result = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    np.fill_diagonal(result, -1)
    return result


@pytest.mark.parametrize("cells", [16_000_000, 90])
def test_coactivation_is_the_jaccard_index(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(nearest, "_CELLS_AT_ONCE", cells)
    rng = np.random.default_rng(0)
    fires = rng.random((500, 30)) < rng.uniform(0.0, 0.2, 30)
    fires[:, 7] = False
    coactivation = Coactivation(30)
    for rows in np.array_split(np.arange(500), 3):
        token, feature = np.nonzero(fires[rows])
        fired = np.ones(len(token), np.float32)
        coactivation.add(feature, rows[token], fired)
    found, expected = coactivation.nearest(5), _jaccard(fires)
    for feature in range(30):
        best = np.sort(expected[feature])[::-1][:5]
        assert found.scores_Ln[feature] == pytest.approx(np.maximum(best, 0), abs=1e-6)
        present = found.features_Ln[feature] >= 0
        others = found.features_Ln[feature][present]
        assert expected[feature, others] == pytest.approx(found.scores_Ln[feature][present])
    assert (found.features_Ln[7] == -1).all()


def test_jaccard_of_the_worked_example() -> None:
    """a = [1, 0, 2, 0, 3] and b = [2, 1, 2, 0, 5] fire together on three of four tokens."""
    coactivation = Coactivation(2)
    features, tokens = np.array([0, 0, 0, 1, 1, 1, 1]), np.array([0, 2, 4, 0, 1, 2, 4])
    coactivation.add(features, tokens, np.array([1, 2, 3, 2, 1, 2, 5]))
    found = coactivation.nearest(1)
    assert found.features_Ln.tolist() == [[1], [0]]
    assert found.scores_Ln[:, 0] == pytest.approx([0.75, 0.75])


def test_no_firing_means_no_neighbour() -> None:
    assert (Coactivation(4).nearest(3).features_Ln == -1).all()


@pytest.mark.parametrize("cells", [16_000_000, 50])
def test_decoder_cosine(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(nearest, "_CELLS_AT_ONCE", cells)
    directions = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    directions[3] = 0
    found = nearest_by_decoder(directions, 4)
    unit = (directions / directions.norm(dim=1, keepdim=True)).numpy()
    cosine = np.nan_to_num(unit @ unit.T, nan=-2)
    np.fill_diagonal(cosine, -2)
    for feature in range(20):
        if feature == 3:
            assert (found.features_Ln[3] == -1).all()
            continue
        assert found.features_Ln[feature].tolist() == np.argsort(-cosine[feature])[:4].tolist()
        assert found.scores_Ln[feature] == pytest.approx(np.sort(cosine[feature])[::-1][:4], abs=1e-5)


def test_a_dictionary_smaller_than_the_list() -> None:
    found = nearest_by_decoder(torch.eye(3), 5)
    assert (found.features_Ln[:, 2:] == -1).all()
    assert (found.features_Ln[:, :2] >= 0).all()


def test_interleave_takes_turns() -> None:
    assert interleave([np.array([[1, 2]]), np.array([[8, 9]])]).tolist() == [[1, 8, 2, 9]]


@pytest.mark.parametrize("n_tokens", [5, 60, 400])
def test_entries_that_cannot_be_among_the_nearest_need_no_sorting(
    monkeypatch: pytest.MonkeyPatch, n_tokens: int
) -> None:
    """Few tokens give many equal scores."""
    rng = np.random.default_rng(n_tokens)
    feature_E, position_E = np.nonzero(rng.random((30, n_tokens)) < 0.4)
    counted = Coactivation(30)
    counted.add(feature_E, position_E, np.ones(len(feature_E), np.float32))
    quick = counted.nearest(4)
    monkeypatch.setattr(nearest, "_MOST_PADDING", 0)
    sorted_all = counted.nearest(4)
    assert np.array_equal(quick.features_Ln, sorted_all.features_Ln)
    assert np.array_equal(quick.scores_Ln, sorted_all.scores_Ln)
