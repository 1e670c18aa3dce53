"""The null of the cosine: uniform for unrelated dictionaries of one activation covariance, and powerful."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.architectures.topk import TopKConfig
from tasks.dictionaries.base import build_dictionary
from tasks.evaluation.recovery import unit_rows
from tasks.evaluation.suites.seed_consistency import SeedConsistency, SeedConsistencyConfig, agreement
from tasks.matching.matcher import MATCHERS, Matched, Side, match_dictionaries


class _Place(ActivationSet):
    """A place by name; nothing of it is read by a matcher of weights."""

    def __init__(self) -> None:
        self.meta = {"model_id": "model", "hookpoint": "blocks.0.resid_post"}


def rows_of(n: int, d: int, decay: float, seed: int) -> torch.Tensor:
    """Directions drawn with the covariance of activations whose spectrum falls off as k^-decay."""
    spread_D = np.arange(1, d + 1) ** (-decay / 2)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)) * spread_D).float()


def matched(rows_a: torch.Tensor, rows_b: torch.Tensor) -> Matched:
    sides = []
    for name, rows in (("a", rows_a), ("b", rows_b)):
        dictionary = build_dictionary(TopKConfig(d_sae=len(rows), k=1, n_tokens=1), rows.shape[1])
        with torch.no_grad():
            dictionary.W_dec.copy_(rows)
        sides.append(Side(name, "set", dictionary, _Place()))
    config = MATCHERS["decoder_cosine"].Config.model_validate({"matcher": "decoder_cosine"})
    return match_dictionaries(*sides, config)


def best(result: Matched) -> pa.Table:
    return result.table.filter(pc.equal(result.table["rank"], 0))


@pytest.mark.parametrize(("n", "d"), [(48, 64), (64, 64), (512, 32), (512, 96)])
@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_p_is_uniform_for_unrelated_directions_of_one_covariance(n: int, d: int, decay: float) -> None:
    p = np.concatenate(
        [
            best(matched(rows_of(n, d, decay, seed), rows_of(n, d, decay, seed + 100)))["p_value"].to_numpy()
            for seed in range(max(2048 // n, 2))
        ]
    )
    # Features of one pair share the directions of the other side; the tolerance allows for that.
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_planted_matches_are_found_among_unrelated_directions(decay: float) -> None:
    a, b = rows_of(400, 48, decay, 1), rows_of(400, 48, decay, 2)
    planted = torch.arange(40)
    noise = rows_of(40, 48, decay, 3)
    b[planted + 100] = a[planted] + 0.2 * noise
    found = best(matched(a, b)).to_pylist()
    hits = [row for row in found if row["verdict"] == "same"]
    right = [row for row in hits if row["feature_a"] < 40 and row["feature_b"] == row["feature_a"] + 100]
    assert len(right) >= 32
    assert len(hits) - len(right) <= 0.1 * len(hits)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_the_control_of_another_seed_is_what_an_unrelated_dictionary_reaches(decay: float) -> None:
    suite = SeedConsistency(SeedConsistencyConfig())
    own, unrelated, third = (
        (unit_rows(rows_of(400, 48, decay, seed)), unit_rows(rows_of(400, 48, 0.0, seed)))
        for seed in (1, 2, 3)
    )
    control = float(agreement(own, suite._null(unrelated, 0))["seed_mmcs", ""].mean())
    assert control == pytest.approx(float(agreement(own, third)["seed_mmcs", ""].mean()), abs=0.01)
