"""Golden vectors of the methods beyond TopK, BatchTopK, JumpReLU: each small enough to check by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.dictionaries.architectures.feature_choice import top_of_columns
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.families.pursuit import pursue
from tasks.dictionaries.families.zipf_auxk import ZipfCurve, integer_quotas
from tasks.dictionaries.sparse_codes import Pairs, top_of_batch
from tasks.dictionaries.training_state import TrainingState

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "methods.json").read_text())


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def state_of(dictionary: Dictionary) -> TrainingState:
    """Batches in their own units, dead latents none, schedules at their end."""
    since = torch.zeros(dictionary.d_sae, dtype=torch.int64)
    return TrainingState(10, 100, 1.0, 1.0, 1.0, since, torch.Generator(), step=9)


def build(name: str, d_in: int, d_sae: int, **fields: Any) -> Any:
    config = dictionary_config({"architecture": name, "d_sae": d_sae, "n_tokens": 1, **fields})
    return build_dictionary(config, d_in).double().requires_grad_(False)


def close(values: Any) -> Any:
    return pytest.approx(values, abs=1e-9)


def test_gated_has_three_terms() -> None:
    vector = GOLDEN["G15_gated"]
    dictionary = build("gated", 2, 3, l1_coefficient=0.1)
    directions = tensor(vector["W_enc_and_W_dec"])
    dictionary.W_enc.copy_(directions.T)
    dictionary.W_dec.copy_(directions)
    for name, key in (("b_enc", "b_gate"), ("r_mag", "r_mag"), ("b_mag", "b_mag")):
        getattr(dictionary, name).copy_(tensor(vector[key]))
    x = tensor(vector["x"])
    assert dictionary.encode(x).flatten().tolist() == close(vector["f"][0])
    assert dictionary(x).flatten().tolist() == close(vector["recon"][0])
    result = dictionary.training_loss(x, x, state_of(dictionary))
    assert float(result.sse) == close(vector["l_recon"])
    assert float(result.parts["l1"]) == close(vector["l_sparse"])
    assert float(result.parts["gate_loss"]) == close(vector["l_aux"])
    assert float(result.loss) == close(vector["total_lambda_0p1"])


def test_matryoshka_minimises_the_mean_over_prefixes() -> None:
    vector = GOLDEN["G6_matryoshka"]
    dictionary = build("matryoshka_batch_topk", 2, 2, k=1, group_shares=(0.5, 0.5))
    assert dictionary.group_sizes == [1, 1]
    dictionary.W_dec.copy_(tensor(vector["W_dec"]))
    dictionary.b_dec.copy_(tensor(vector["b_dec"]))
    pairs = Pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0]), 2)
    x = tensor(vector["x"])
    error, fit = dictionary.fit(pairs, tensor(vector["codes"][0]), x, x)
    assert float(error.square().sum()) == close(vector["sse_b_only_and_prefixes"][-1])
    assert float(fit) == close(vector["mean_over_prefixes"])


def test_three_ways_to_choose() -> None:
    vector = GOLDEN["G4_choice"]
    affinity = tensor(vector["affinity"])

    def codes(pairs: Pairs) -> list[list[float]]:
        return list(pairs.dense(affinity[pairs.tokens, pairs.latents]).tolist())

    assert codes(top_of_batch(affinity, vector["M"])) == vector["mutual_choice"]
    uniform = integer_quotas(torch.ones(4), vector["M"], n_tokens=4)
    assert codes(top_of_columns(affinity, uniform)) == vector["feature_choice_uniform_m2"]
    zipf = integer_quotas(ZipfCurve(1.0, 0.0).rates(4, total=2.0), vector["M"], n_tokens=4)
    assert zipf.tolist() == vector["zipf_quota_m"]
    assert codes(top_of_columns(affinity, zipf)) == vector["feature_choice_zipf"]


@pytest.mark.parametrize("n_tokens", [1, 40], ids=["from the residual", "by products of directions"])
def test_matching_pursuit_takes_one_direction_after_the_other(n_tokens: int) -> None:
    for case, n_steps in (("case1", 1 if n_tokens == 1 else 5), ("case2_reselection", 4)):
        vector = GOLDEN["G5_mp"][case]
        directions = tensor(vector["D"])
        n_steps = max(n_steps, len(vector["trace"]))
        if n_tokens == 1:
            directions = torch.cat([directions, torch.zeros(20, 2).double()])  # too many for products
        found = pursue(tensor([vector["x"]]).expand(n_tokens, -1), directions, n_steps)
        latents = [atom for atom, _, _ in vector["trace"]]
        assert found.latents[0, : len(latents)].tolist() == latents
        expected = [value for _, value, _ in vector["trace"]] + [0.0] * (n_steps - len(latents))
        assert found.values[-1].tolist() == close(expected)
        assert float(found.residual[-1].square().sum()) == close(vector["resid_sq"])


def test_matching_pursuit_encodes_without_counting_twice() -> None:
    for case, steps in (("case1", 3), ("case2_reselection", 4)):
        vector = GOLDEN["G5_mp"][case]
        directions = tensor(vector["D"])
        dictionary = build("matching_pursuit", 2, len(directions), k=len(directions))
        dictionary.steps = steps
        dictionary.W_dec.copy_(directions)
        x = tensor([vector["x"]])
        assert dictionary.encode(x)[0].tolist() == close(vector["codes"])
        if "recon" in vector:
            assert dictionary(x)[0].tolist() == close(vector["recon"])


def test_group_bias_falls_for_a_latent_that_fires_too_often() -> None:
    vector = GOLDEN["G21_gba"]
    fields = {"highest_frequency": vector["p_target"], "window_tokens": 4, "lower_by": 0.01}
    dictionary = build("group_bias_adaptation", 1, 1, n_groups=1, **fields)
    state = state_of(dictionary)
    pre = tensor(vector["preact_incl_bias"]).unsqueeze(1)
    dictionary.observe((pre > 0).sum(dim=0), pre.amax(dim=0), len(pre), state)
    fired, seen = state.memory["step_fired"], state.memory["step_tokens"]
    assert float(fired / seen) == vector["phat"]
    assert float(state.memory["step_largest"]) == pytest.approx(vector["r"])
    dictionary.after_step(state)
    assert float(dictionary.b_enc) == pytest.approx(vector["b_new"])
    assert state.memory == {}, "a new window begins"
