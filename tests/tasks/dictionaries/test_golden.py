"""Golden vectors of the methods: each small enough to check by hand."""

from typing import Any

import pytest
import torch

from tasks.dictionaries.architectures.batch_topk import BatchTopK
from tasks.dictionaries.architectures.jumprelu import JumpReLU
from tasks.dictionaries.architectures.topk import TopK
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.families.auxk import aux_loss, aux_ratio
from tasks.dictionaries.families.straight_through import jump, step
from tasks.dictionaries.metrics import MetricName, ReconstructionSums
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths
from tasks.measures.fidelity import CLEAN, Fidelity
from tasks.training.calibration import calibrate


def tensor(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def identity(cls: Any, name: str, d: int, **fields: Any) -> Any:
    """A dictionary whose pre-activations are its inputs."""
    config = dictionary_config({"architecture": name, "d_sae": d, "n_tokens": 1, **fields})
    dictionary = cls(config, Widths.single(d)).double().requires_grad_(False)
    for weight in (dictionary.W_enc, dictionary.W_dec):
        weight.copy_(torch.eye(d))
    return dictionary


def test_topk_keeps_k_and_then_applies_relu(golden: dict[str, Any]) -> None:
    vector = golden["G1_topk"]
    dictionary = identity(TopK, "topk", 4, k=vector["k"])
    codes = dictionary.encode(tensor(vector["pre"]))
    assert codes.tolist() == vector["codes"]
    assert (codes > 0).sum(dim=1).tolist() == vector["L0"]


def test_batch_topk_trains_on_the_batch_and_encodes_by_threshold(golden: dict[str, Any]) -> None:
    vector = golden["G2_batchtopk"]
    acts = tensor(vector["acts"])
    dictionary = identity(BatchTopK, "batch_topk", 4, k=vector["k"])
    state = TrainingState(9, 9, 1.0, 1.0, 1.0, torch.zeros(4, dtype=torch.int64), torch.Generator())
    pairs = dictionary.select(acts, state)
    assert pairs.dense(acts[pairs.tokens, pairs.latents]).tolist() == vector["codes_train"]
    learned = []
    for smallest in (0.30, 0.25, 0.40):
        dictionary.learn_threshold(tensor(smallest))
        learned.append(float(dictionary.threshold))
    assert learned == pytest.approx(vector["ema_saprmarks_beta_0p999"], abs=1e-9)
    for threshold, name in ((0.3, "infer_threshold_0p3_strict"), (0.2999, "infer_threshold_0p2999")):
        dictionary.threshold.fill_(threshold)
        assert dictionary.encode(acts).tolist() == vector[name]


def test_batch_topk_recalibrates_a_threshold_that_misses_k() -> None:
    dictionary = identity(BatchTopK, "batch_topk", 8, k=2)
    sample = torch.rand(500, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dictionary.threshold.fill_(0.2)
    settled = dictionary.after_training(sample)
    assert settled["threshold_learned"] == pytest.approx(0.2)
    assert (dictionary.encode(sample) > 0).sum() == 2 * 500
    dictionary.threshold.mul_(1.001)
    kept = float(dictionary.threshold)
    assert dictionary.after_training(sample)["threshold"] == kept, "within 10 % the learned one stands"


def test_jumprelu_and_its_straight_through_gradients(golden: dict[str, Any]) -> None:
    vector = golden["G3_jumprelu"]
    z, theta = tensor(vector["z"]).requires_grad_(), tensor([vector["theta"]]).requires_grad_()
    out = jump(z, theta, vector["eps"])
    (out * tensor(vector["upstream"])).sum().backward()
    assert out.tolist() == vector["out"]
    assert z.grad.tolist() == vector["grad_z"]
    assert theta.grad.tolist() == pytest.approx(vector["grad_theta"])
    theta.grad = None
    step(z, theta, vector["eps"]).sum().backward()
    assert theta.grad.tolist() == pytest.approx(vector["step_grad_theta_sum"])


def test_jumprelu_target_penalty_reads_pre_activations(golden: dict[str, Any]) -> None:
    vector = golden["G3_jumprelu"]
    dictionary = identity(
        JumpReLU, "jumprelu", 1, target_l0=1.0, bandwidth=vector["eps"], initial_threshold=0.5
    )
    dictionary.requires_grad_(True)
    state = TrainingState(1, 1, 1.0, 1.0, 1.0, torch.zeros(1, dtype=torch.int64), torch.Generator())
    z = tensor(vector["z"])
    result = dictionary.training_loss(z, z, state)
    assert float(result.l0) == pytest.approx(vector["L0_mean"])
    assert float(result.parts["penalty"]) == pytest.approx(vector["target_loss"])
    dictionary.zero_grad()
    l0 = step(tensor(vector["z"]), dictionary.threshold, vector["eps"]).sum(dim=1).mean()
    (l0 - 1).square().backward()
    assert dictionary.threshold.grad.tolist() == pytest.approx(vector["grad_theta_target_loss"])


def test_auxk_reconstructs_the_residual_with_dead_latents(golden: dict[str, Any]) -> None:
    vector = golden["G7_auxk"]
    residual, expected = tensor(vector["residual"]), vector["loss_saprmarks_centred"]
    assert float(aux_ratio(residual, tensor(vector["e_hat"]))) == pytest.approx(expected)
    dictionary = identity(TopK, "topk", 2, k=1)
    acts = tensor(vector["dead_relu_acts"])
    dead = torch.ones(2, dtype=torch.bool)
    loss = aux_loss(dictionary, acts, residual, dead, vector["k_aux"])
    assert float(loss) == pytest.approx(expected)
    assert dictionary.config.aux_alpha * float(loss) == pytest.approx(vector["weighted_1_32"])


def test_auxk_uses_dead_latents_alone_and_is_zero_without_them(golden: dict[str, Any]) -> None:
    acts = tensor(golden["G7_auxk"]["dead_relu_acts"])
    residual = tensor(golden["G7_auxk"]["residual"])
    dictionary = identity(TopK, "topk", 2, k=1).requires_grad_(True)
    loss = aux_loss(dictionary, acts, residual, torch.tensor([False, True]), 4)
    loss.backward()
    assert dictionary.W_dec.grad[0].abs().sum() == 0
    assert dictionary.W_dec.grad[1].abs().sum() > 0
    assert float(aux_loss(dictionary, acts, residual, torch.zeros(2, dtype=torch.bool), 4)) == 0
    constant = torch.ones(3, 2, dtype=torch.float64)
    assert float(aux_ratio(constant, constant * 0.5)) == 0, "a constant residual has no variance to explain"


def test_dead_latents_are_counted_in_tokens(golden: dict[str, Any]) -> None:
    vector = golden["G27_dead_counter"]
    state = TrainingState(
        9, vector["threshold"], 1.0, 1.0, 1.0, torch.zeros(3, dtype=torch.int64), torch.Generator()
    )
    for fired, (counters, dead) in zip(([1, 0, 1], [1, 0, 0], [0, 0, 1]), vector["history"], strict=True):
        state.count(torch.tensor(fired, dtype=torch.bool), vector["batch_tokens"])
        assert state.tokens_since_fired.tolist() == counters
        assert state.dead.tolist() == dead


@pytest.mark.parametrize("batches", [[3], [1, 2], [1, 1, 1]])
def test_reconstruction_metrics_are_pooled(golden: dict[str, Any], batches: list[int]) -> None:
    vector = golden["G8_fvu"]
    sums = ReconstructionSums()
    pairs = zip(tensor(vector["X"]).split(batches), tensor(vector["X_hat"]).split(batches), strict=True)
    for x, recon in pairs:
        sums.add(x, recon)
    values = sums.values()
    expected = {
        "fvu": vector["FVU"],
        "sse_per_token": vector["sse_per_token"],
        "mse": vector["mse_per_element"],
        "cosine": vector["cosine_mean"],
        "shrinkage": vector["rel_recon_bias"],
    }
    for metric, value in expected.items():
        assert values[MetricName(metric)] == pytest.approx(value, abs=1e-9)


def test_recovered_is_a_ratio_of_token_weighted_means(golden: dict[str, Any]) -> None:
    vector = golden["G9_ce_recovered"]
    measured = Fidelity(n=sum(vector["n_tok"]))
    for name, key in ((CLEAN, "clean"), ("dictionary", "sae"), ("zero_ablation", "zero")):
        measured.ce_sums[name] = sum(ce * n for ce, n in zip(vector[key], vector["n_tok"], strict=True))
    recovered = measured.ce_recovered("dictionary", "zero_ablation")
    assert recovered == pytest.approx(vector["token_weighted_ratio_of_means"])
    assert measured.delta_ce("dictionary") == pytest.approx(vector["delta_ce"])
    measured.ce_sums["zero_ablation"] = measured.ce_sums[CLEAN]
    assert measured.ce_recovered("dictionary", "zero_ablation") is None


def test_dataset_rms_scale(golden: dict[str, Any]) -> None:
    vector = golden["G25_norms"]
    x = torch.tensor([vector["x"], [-value for value in vector["x"]]])
    constants = calibrate(x, "dataset_rms", "mean", [4])
    assert constants.scales == (pytest.approx(vector["unit_expected_norm_scale"]),)
    assert constants.mean_norm == pytest.approx(2.0)
