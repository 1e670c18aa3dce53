"""A batch in parts: the same gradient for methods whose loss is a mean over tokens; bfloat16 stays close."""

from typing import Any

import pytest
import torch

from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.training.gradients import batch_gradient, is_half
from tasks.training.run import TrainingRun

PER_TOKEN: list[dict[str, Any]] = [
    {"architecture": "topk", "k": 3, "aux_alpha": 0.0},
    {"architecture": "relu_l1", "l1_coefficient": 0.3},
    {"architecture": "jumprelu", "l0_coefficient": 0.01, "bandwidth": 0.5},
    {"architecture": "jumprelu", "tanh_coefficient": 0.01, "bandwidth": 0.5},
]
TRAINED = tuple(
    name
    for name in ARCHITECTURES.names()
    if ARCHITECTURES[name].how_trained == "steps" and ARCHITECTURES[name].reconstructs_input
)


def make_run(fields: dict[str, Any], planted: Any, **changes: Any) -> TrainingRun:
    sizes = {"d_sae": 48, "n_tokens": 4_000, "batch_tokens": 200, "lr": 3e-3, "buffer_tokens": 2_000}
    config: Any = dictionary_config({**sizes, **fields, **changes})
    run = TrainingRun(config, planted, torch.device("cpu"))
    run.start()
    return run


def gradient_of(run: TrainingRun, **how: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    x_ND, y_NE = run.scaled(run.feed.stream.next_batch())
    run.optimiser.zero_grad(set_to_none=True)
    step = batch_gradient(run.dictionary, x_ND, y_NE, run.state, n_tokens=len(x_ND), **how)
    gradients = {name: p.grad for name, p in run.dictionary.named_parameters() if p.grad is not None}
    return step, gradients


@pytest.mark.parametrize("fields", PER_TOKEN, ids=lambda fields: "-".join(list(fields)[:2]))
@pytest.mark.parametrize("part_tokens", [1, 64])
def test_parts_add_up_to_the_batch(fields: dict[str, Any], part_tokens: int, planted: Any) -> None:
    whole, expected = gradient_of(make_run(fields, planted), part_tokens=200)
    parts, gradients = gradient_of(make_run(fields, planted), part_tokens=part_tokens)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)
    for name in ("loss", "sse", "l0"):
        torch.testing.assert_close(
            getattr(parts, name).float(), getattr(whole, name).detach().float(), rtol=1e-5, atol=1e-6
        )
    assert torch.equal(parts.fired, whole.fired)


def test_training_in_parts_follows_training_in_one_go(planted: Any) -> None:
    run, parted = (make_run(PER_TOKEN[0], planted, micro_batch_tokens=m) for m in (None, 64))
    losses = [(float(run.step().loss), float(parted.step().loss)) for _ in range(20)]
    for whole, parts in losses:
        assert parts == pytest.approx(whole, rel=1e-3)
    assert losses[-1][0] < 0.9 * losses[0][0]
    assert torch.equal(run.state.tokens_since_fired, parted.state.tokens_since_fired)


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_products_leave_a_close_gradient_in_float32(name: str, planted: Any) -> None:
    """On a processor: what a card does in bfloat16 by itself, every method can take."""
    fields = {"architecture": name, **ARCHITECTURES[name].Config.example}
    exact, expected = gradient_of(make_run(fields, planted), part_tokens=200)
    half, gradients = gradient_of(make_run(fields, planted), part_tokens=200, half=True)
    assert float(half.loss) == pytest.approx(float(exact.loss.detach()), rel=0.05)
    assert gradients.keys() == expected.keys()
    for name_, gradient in gradients.items():
        assert gradient.dtype == torch.float32, name_
        assert torch.isfinite(gradient).all(), name_
    learnt = "W_dec" if "W_dec" in expected else "W_enc"
    similarity = torch.nn.functional.cosine_similarity(
        gradients[learnt].flatten(), expected[learnt].flatten(), dim=0
    )
    assert float(similarity) > 0.95


def test_precision_is_chosen_by_the_device() -> None:
    assert not is_half("auto", torch.device("cpu"))
    assert is_half("bfloat16", torch.device("cpu"))
    assert not is_half("float32", torch.device("cuda"))
