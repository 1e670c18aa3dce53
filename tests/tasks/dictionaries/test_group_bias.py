"""Group Bias Adaptation: windows, the rules for biases, frequencies after training, thresholds."""

from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries import active_pairs
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.training_state import TrainingState
from tasks.training.trainer import train


def build(**fields: Any) -> Any:
    base = {"architecture": "group_bias_adaptation", "d_sae": 4, "n_tokens": 1, "highest_frequency": 0.5}
    config = dictionary_config({**base, "n_groups": 2, **fields})
    return build_dictionary(config, 2).requires_grad_(False)


def state_of(mean_norm: float = 1.0) -> TrainingState:
    return TrainingState(10, 9, 1.0, mean_norm, 1.0, torch.zeros(4).long(), torch.Generator())


def test_biases_fall_rise_and_stay_in_their_range() -> None:
    dictionary = build(lower_by=0.1, raise_by=0.5)
    dictionary.b_enc.copy_(torch.tensor([-0.95, -0.3, -0.3, -0.1]))
    frequency, largest = torch.tensor([0.6, 0.4, 0.0, 0.2]), torch.tensor([1.0, 0.7, -0.5, 0.4])
    dictionary.adapt(frequency, largest, state_of())
    # too often, but not below -1; within the target; idle, up by half of 0.4; within the target
    assert dictionary.b_enc.tolist() == pytest.approx([-1.0, -0.3, -0.1, -0.1])
    dictionary.adapt(frequency, largest, state_of())
    assert float(dictionary.b_enc[2]) == 0.0, "never above 0"
    dictionary.b_enc.fill_(-0.5)
    dictionary.adapt(torch.tensor([0.1, 0.1, 0.0, 0.0]), torch.tensor([0.2, 0.4, -1.0, -1.0]), state_of())
    assert dictionary.b_enc.tolist() == pytest.approx([-0.5, -0.5, -0.35, -0.35]), (
        "an idle group learns from all"
    )


def test_a_window_gathers_batches() -> None:
    dictionary = build(window_tokens=3, lower_by=0.01)
    state = state_of()
    dictionary.observe(torch.tensor([2, 0, 1, 0]), torch.tensor([2.0, -1.0, 0.5, -2.0]), 2, state)
    dictionary.after_step(state)
    assert int(state.memory["window_tokens"]) == 2
    assert dictionary.b_enc.tolist() == [0.0] * 4
    dictionary.observe(torch.tensor([1, 0, 1, 0]), torch.tensor([0.5, -0.5, 0.7, -4.0]), 1, state)
    dictionary.observe(torch.tensor([0, 0, 1, 0]), torch.tensor([0.1, -0.9, 0.1, -4.0]), 1, state)
    assert state.memory["step_fired"].tolist() == [1, 0, 2, 0], "parts of a batch add up"
    assert state.memory["step_largest"].tolist() == pytest.approx([0.5, -0.5, 0.7, -4.0])
    assert int(state.memory["step_tokens"]) == 2
    assert set(dictionary.gradient.joined) == set(state.memory) - {
        "window_fired",
        "window_largest",
        "window_tokens",
    }
    dictionary.after_step(state)
    assert state.memory == {}, "a new window begins"
    assert dictionary.b_enc.tolist() == pytest.approx([-0.02, 0.0, -0.007, 0.0])


def test_windows_are_long_enough_for_the_rarest_and_short_enough_for_the_training() -> None:
    assert build(n_tokens=10**6).config.counted_tokens() == 40  # the second group fires on a quarter
    assert build(n_tokens=10**6, n_groups=4, d_sae=8, highest_frequency=0.01).config.counted_tokens() == 2500
    assert build(n_tokens=10**6, window_tokens=7).config.counted_tokens() == 7


def test_biases_come_down_within_a_third_of_the_training_however_short() -> None:
    fields = {"n_groups": 4, "d_sae": 8, "highest_frequency": 0.01, "batch_tokens": 1_000}
    short, long, tiny = (build(n_tokens=n, **fields).config for n in (10**6, 10**8, 10**4))
    assert short.bias_steps() == pytest.approx((0.018, 0.018)), (
        "a window of 2,500 tokens: three steps of 1,000"
    )
    assert (1 - short.bias_steps()[0]) ** (1_000 / 3 / 3) < 0.15
    assert long.bias_steps() == (0.01, 0.01)
    assert tiny.bias_steps() == (0.2, 0.2)
    assert build(lower_by=0.3, **fields).config.bias_steps() == (0.3, 0.3)
    assert build(lower_by=0.3, raise_by=0.1, **fields).config.bias_steps() == (0.3, 0.1)


def test_the_two_activations() -> None:
    x = torch.tensor([[1.0, 0.0], [0.1, 2.0]])
    for activation, expected in (("relu", [[2.4, 0.0], [0.0, 5.1]]), ("jumprelu", [[3.0, 0.0], [0.0, 6.0]])):
        dictionary = build(d_sae=2, activation=activation)
        dictionary.W_dec.copy_(torch.eye(2))
        dictionary.amplitude.fill_(3.0)
        dictionary.b_enc.copy_(torch.tensor([-0.2, -0.3]))
        state = state_of()
        dictionary.observe(torch.zeros(2).long(), torch.zeros(2), 0, state)
        dictionary.after_step(state)
        torch.testing.assert_close(dictionary.encode(x), torch.tensor(expected))
        columns = dictionary.feature_columns()
        assert columns["feature_group"] == [0, 1]
        if activation == "jumprelu":
            assert columns["threshold"] == pytest.approx([0.6, 0.9])


@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_losses_on_pairs_and_on_dense_codes_are_those_of_autograd(
    activation: str, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"architecture": "group_bias_adaptation", "d_sae": 24, "n_tokens": 1, "highest_frequency": 0.5}
    config = dictionary_config({**fields, "activation": activation, "n_groups": 2})
    x = planted.valid_tokens("train")[:80].double()
    found = []
    for largest_share in (0.0, 1.0):
        monkeypatch.setattr(active_pairs, "_LARGEST_SHARE", largest_share)
        dictionary: Any = build_dictionary(config, 16).double()
        with torch.no_grad():
            dictionary.b_enc.fill_(-0.3)
            dictionary.amplitude.copy_(torch.linspace(0.5, 1.5, 24))
        state = TrainingState(10, 9, 3.0, 4.0, 4.0, torch.zeros(24).long(), torch.Generator())
        result = dictionary.training_loss(x, x, state)
        result.loss.backward()
        memory = (state.memory["step_fired"], state.memory["step_largest"].clamp_min(0))
        gradients = [dictionary.W_dec.grad, dictionary.b_dec.grad, dictionary.amplitude.grad]
        found.append([result.loss.detach(), result.l0, *memory, *gradients])
    W, b_dec, a = (
        getattr(dictionary, n).detach().clone().requires_grad_() for n in ("W_dec", "b_dec", "amplitude")
    )
    y = (x - b_dec) @ W.T
    acts = a * (y - 0.3 * (activation == "relu")) * (y > 0.3)
    loss = (x - acts @ W - b_dec).square().sum(1).mean() / 3.0
    loss.backward()  # type: ignore[no-untyped-call]
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(dense, sparse)
    for ours, plain in zip(found[0][-3:], (W.grad, b_dec.grad, a.grad), strict=True):
        torch.testing.assert_close(ours, plain)


def test_no_latent_fires_much_more_often_than_its_group_should(planted: Any, tmp_path: Path) -> None:
    fields = {"architecture": "group_bias_adaptation", "d_sae": 48, "n_tokens": 60_000, "batch_tokens": 256}
    config = dictionary_config({**fields, "lr": 4e-3, "highest_frequency": 0.12, "n_groups": 2})
    found: Any = train(config, planted, tmp_path, device="cpu", n_threads=1).dictionary
    frequency = (found.encode(planted.valid_tokens("eval")) > 0).float().mean(dim=0)
    for group, target in enumerate(config.frequencies()):
        of_group = frequency[found.groups == group]
        assert of_group.max() < 1.4 * target
        assert of_group.max() > 0.7 * target, "the bound is reached: it is the biases that hold it"
    assert torch.equal(found.W_enc, found.W_dec.T)


def test_more_groups_than_latents_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="4 latents cannot be divided into 10 groups"):
        build(n_groups=10)
