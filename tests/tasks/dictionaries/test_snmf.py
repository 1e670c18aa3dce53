"""Semi-nonnegative factorisation: golden steps, monotone error, planted factors, projection, resume."""

import json
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import nnls as scipy_nnls

from catalog.errors import UserError
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.families import nnls
from tasks.training.trainer import TrainedDictionary, TrainingInterrupted, train

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "decompositions.json").read_text())
CASES = {"positive": GOLDEN["G18_snmf_step"], "mixed": GOLDEN["G18_snmf_step"]["mixed_sign_case"]}


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class SparseFactors:
    """Non-negative mixtures of factors, each over a tenth of the neurons, with little noise."""

    d_in, context_length = 40, 32

    def __init__(self, n_factors: int = 8) -> None:
        random = np.random.default_rng(2)
        order = np.argsort(random.random((n_factors, 40)), axis=1)
        self.factors = random.standard_normal((n_factors, 40)) * (np.argsort(order, axis=1) < 4)
        self.factors /= np.linalg.norm(self.factors, axis=1, keepdims=True)
        weights = random.uniform(0.5, 2, (3200, n_factors)) * (random.random((3200, n_factors)) < 0.2)
        values = weights @ self.factors + 0.01 * random.standard_normal((3200, 40))
        self.values = values.reshape(100, 32, 40).astype(np.float32)
        self.tokens = SimpleNamespace(valid=np.ones((100, 32), dtype=bool))

    def sequence_rows(self, split: str) -> Any:
        return np.arange(90) if split == "train" else np.arange(90, 100)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def make_config(**changes: Any) -> Any:
    fields = {"architecture": "snmf", "d_sae": 8, "n_tokens": 2_000, "max_iterations": 60}
    return dictionary_config({**fields, **changes})


def loss(result: TrainedDictionary) -> list[float]:
    return [row["value"] for row in result.log.to_pylist() if row["metric"] == "loss"]


@pytest.mark.parametrize("case", CASES)
def test_one_step_is_the_golden_one(case: str) -> None:
    vector = CASES[case]
    a_ND, codes_NK = tensor(vector["A"]).T, tensor(vector["G"])
    factors_KD = nnls.factor_update(a_ND, codes_NK, ridge=0)
    torch.testing.assert_close(factors_KD.T, tensor(vector["F"]), atol=1e-9, rtol=0)
    before = nnls.squared_error(a_ND, factors_KD, codes_NK)
    after_NK = nnls.code_update(a_ND, factors_KD, codes_NK, floor=0)
    torch.testing.assert_close(after_NK, tensor(vector["G_next"]), atol=1e-9, rtol=0)
    after = nnls.squared_error(a_ND, factors_KD, after_NK)
    assert before == pytest.approx(vector["loss_before"], abs=1e-9)
    assert after == pytest.approx(vector.get("loss_after", vector.get("loss_after_G")), abs=1e-9)


@pytest.mark.parametrize("start", ["kmeans", "svd", "random"])
def test_the_error_never_rises_without_winners(start: Any) -> None:
    a_ND = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)).double()
    codes_NK = nnls.first_codes(a_ND, 15, start, torch.Generator().manual_seed(0))
    assert codes_NK.min() >= nnls.SMALLEST
    errors = []
    for _ in range(60):
        factors_KD = nnls.factor_update(a_ND, codes_NK, ridge=0)
        errors.append(nnls.squared_error(a_ND, factors_KD, codes_NK))
        factors_KD, codes_NK = nnls.balanced(factors_KD, codes_NK)
        assert nnls.squared_error(a_ND, factors_KD, codes_NK) == pytest.approx(errors[-1])
        codes_NK = nnls.code_update(a_ND, factors_KD, codes_NK, floor=0)
        errors.append(nnls.squared_error(a_ND, factors_KD, codes_NK))
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(errors))
    assert errors[-1] < 0.5 * errors[0]


def test_winners_are_the_largest_entries_of_each_factor() -> None:
    factors_KD = tensor([[3.0, -4.0, 0.5, 1.0], [0.1, 0.2, -0.3, 0.0]])
    assert nnls.keep_winners(factors_KD, 0.5).tolist() == [[3, -4, 0, 0], [0, 0.2, -0.3, 0]]
    assert nnls.keep_winners(factors_KD, 0.01).tolist() == [[0, -4, 0, 0], [0, 0, -0.3, 0]]


def test_planted_factors_are_found(tmp_path: Path) -> None:
    planted = SparseFactors()
    config = make_config(winner_share=0.1, max_iterations=1500)
    result = train(config, planted, tmp_path, device="cpu", n_threads=1)
    dictionary = result.dictionary
    assert dictionary.unit_type == "factor"
    mmcs = (torch.from_numpy(planted.factors).float() @ dictionary.W_dec.T).amax(dim=1)
    assert mmcs.mean() >= 0.95
    assert ((dictionary.W_dec != 0).sum(dim=1) <= 4).all()
    x_ND = torch.from_numpy(planted.read(planted.sequence_rows("eval"))).reshape(-1, 40)
    residual = (x_ND - dictionary(x_ND)).square().sum() / (x_ND - x_ND.mean(dim=0)).square().sum()
    assert residual < 0.1


def test_with_winners_the_best_iterate_is_kept(tmp_path: Path) -> None:
    config = make_config(winner_share=0.05, max_iterations=200, patience=40)
    result = train(config, SparseFactors(), tmp_path, device="cpu", n_threads=1)
    errors = loss(result)
    assert any(later > earlier for earlier, later in pairwise(errors))
    x_ND = torch.from_numpy(SparseFactors().values[:62]).reshape(-1, 40)
    projected = (x_ND - result.dictionary(x_ND)).square().sum() / x_ND.square().sum()
    assert projected < 1.05 * min(errors)


@pytest.mark.parametrize("n_factors", [6, 30])
def test_codes_are_the_non_negative_least_squares_solution(n_factors: int) -> None:
    generator = torch.Generator().manual_seed(1)
    directions_KD = torch.nn.functional.normalize(torch.randn(n_factors, 20, generator=generator), dim=1)
    x_ND = torch.randn(40, 20, generator=generator)
    codes_NK = nnls.nonnegative_codes(x_ND, directions_KD)
    best_N = [scipy_nnls(directions_KD.T.double().numpy(), row)[1] for row in x_ND.double().numpy()]
    residual_N = (x_ND - codes_NK @ directions_KD).norm(dim=1)
    assert codes_NK.min() >= 0
    torch.testing.assert_close(residual_N, torch.tensor(best_N).float(), atol=2e-4, rtol=1e-4)
    empty_KD = torch.cat([directions_KD, torch.zeros(1, 20)])
    assert nnls.nonnegative_codes(x_ND, empty_KD)[:, -1].tolist() == [0.0] * 40


@pytest.mark.parametrize("winner_share", [None, 0.2])
def test_a_stopped_factorisation_ends_bit_for_bit_as_an_unbroken_one(
    winner_share: float | None, tmp_path: Path
) -> None:
    config = make_config(winner_share=winner_share, tolerance=0)
    unbroken = train(config, SparseFactors(), tmp_path / "a", device="cpu", n_threads=1)
    for calls_before in (5, 30):
        calls = count()
        with pytest.raises(TrainingInterrupted, match="stopped at iteration"):
            train(
                config,
                SparseFactors(),
                tmp_path / "b",
                device="cpu",
                n_threads=1,
                should_stop=lambda calls=calls, n=calls_before: next(calls) >= n,
            )
    resumed = train(config, SparseFactors(), tmp_path / "b", device="cpu", n_threads=1)
    assert torch.equal(resumed.dictionary.W_dec, unbroken.dictionary.W_dec)
    assert resumed.log.equals(unbroken.log)
    with pytest.raises(UserError, match="belongs to another configuration"):
        train(make_config(seed=3), SparseFactors(), tmp_path / "b", device="cpu", n_threads=1)


def test_sizes_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lower n_tokens"):
        train(make_config(n_tokens=10**8), SparseFactors(), tmp_path, device="cpu")
    with pytest.raises(ValueError, match="exactly one of expansion_factor and d_sae"):
        make_config(expansion_factor=2)
