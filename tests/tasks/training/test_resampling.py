"""Dead latents restart at badly reconstructed tokens, at the right times, and as often after a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.training_state import TrainingState
from tasks.training.resampling import is_due, resample
from tasks.training.run import TrainingRun
from tasks.training.trainer import TrainingInterrupted, train

FIELDS: dict[str, Any] = {
    "architecture": "relu_l1",
    "l1_coefficient": 0.3,
    "d_sae": 48,
    "n_tokens": 6_000,
    "batch_tokens": 100,
    "lr": 3e-3,
    "buffer_tokens": 2_000,
}


def make_run(planted: Any, **changes: Any) -> TrainingRun:
    run = TrainingRun(dictionary_config({**FIELDS, **changes}), planted, torch.device("cpu"))
    run.start()
    return run


def test_dead_latents_take_the_direction_of_a_bad_token(planted: Any) -> None:
    run = make_run(planted, dead_after_tokens=500)
    for _ in range(5):
        run.step()
    dictionary, state = run.dictionary, run.state
    dead = torch.tensor([3, 11, 40])
    state.tokens_since_fired[:] = 0
    state.tokens_since_fired[dead] = 500
    before = {name: value.clone() for name, value in dictionary.state_dict().items()}
    x_ND = dictionary.b_dec.detach() + 0.01 * torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    x_ND[[5, 9, 17]] += 50 * torch.eye(16)[[1, 2, 3]]  # all of the loss
    assert resample(dictionary, run.optimiser, x_ND, x_ND, state) == 3
    directions = (x_ND[[5, 9, 17]] - dictionary.b_dec.detach()).detach()
    cosines = dictionary.W_dec[dead] @ torch.nn.functional.normalize(directions, dim=1).T
    assert sorted(cosines.argmax(dim=1).tolist()) == [0, 1, 2]
    torch.testing.assert_close(cosines.max(dim=1).values, torch.ones(3))
    alive = torch.ones(48, dtype=torch.bool).index_fill(0, dead, False)
    mean_norm = before["W_enc"][:, alive].norm(dim=0).mean()
    torch.testing.assert_close(dictionary.W_enc[:, dead], 0.2 * mean_norm * dictionary.W_dec[dead].T)
    assert (dictionary.b_enc[dead] == 0).all()
    assert not state.dead.any()
    for name, index in (("W_enc", (slice(None), dead)), ("W_dec", (dead,)), ("b_enc", (dead,))):
        parameter = getattr(dictionary, name)
        kept = (slice(None), alive) if name == "W_enc" else (alive,)
        assert torch.equal(parameter[kept], before[name][kept]), name
        for key in ("exp_avg", "exp_avg_sq"):
            moment = run.optimiser.state[parameter][key]
            assert (moment[index] == 0).all(), (name, key)
            assert (moment[kept] != 0).any(), (name, key)


def test_probability_grows_with_the_square_of_the_loss(planted: Any) -> None:
    """Of two tokens with squared errors 1 : 2, the second is drawn four times as often."""
    run = make_run(planted, d_sae=4_000)
    dictionary, state = run.dictionary, run.state
    with torch.no_grad():
        dictionary.W_enc.zero_()
        dictionary.b_enc.fill_(-1)
    state.tokens_since_fired[1:] = state.dead_after_tokens
    x_ND = dictionary.b_dec.detach() + torch.eye(16)[:2] * torch.tensor([[1.0], [2**0.5]])
    assert resample(dictionary, run.optimiser, x_ND, x_ND, state) == 3_999
    n_second = int((dictionary.W_dec[1:, 1] > 0.9).sum())
    assert n_second / 3_999 == pytest.approx(0.8, abs=0.03)


def test_it_is_due_at_multiples_until_the_learning_rate_falls() -> None:
    def due(n_tokens: int, n_steps: int = 100) -> bool:
        state = TrainingState(
            n_steps=n_steps,
            dead_after_tokens=1,
            total_variance=1.0,
            mean_norm=1.0,
            target_norm=1.0,
            tokens_since_fired=torch.zeros(1, dtype=torch.int64),
            generator=torch.Generator(),
            step=n_tokens // 300,
            n_tokens=n_tokens,
        )
        return is_due(state, 1_000, 300, decay_share=0.2)

    assert [n for n in range(300, 30_001, 300) if due(n)][:3] == [1_200, 2_100, 3_000]
    assert max(n for n in range(300, 30_001, 300) if due(n)) < 24_000


def test_resampling_is_resumed_exactly_and_revives(planted: Any, tmp_path: Path) -> None:
    sparse = {"l1_coefficient": 2.0, "lr": 0.01, "dead_after_tokens": 200}
    config = dictionary_config({**FIELDS, **sparse, "resample_every_tokens": 1_000})
    unbroken = train(config, planted, tmp_path / "unbroken", device="cpu", n_threads=1)
    calls = iter(range(25))
    with pytest.raises(TrainingInterrupted):
        train(config, planted, tmp_path / "b", n_threads=1, should_stop=lambda: next(calls, None) is None)
    resumed = train(config, planted, tmp_path / "b", device="cpu", n_threads=1)
    assert resumed.log.equals(unbroken.log)
    for name, tensor in unbroken.dictionary.state_dict().items():
        assert torch.equal(tensor, resumed.dictionary.state_dict()[name]), name
    resampled = [row for row in unbroken.log.to_pylist() if row["metric"] == "resampled"]
    assert [row["n_tokens"] for row in resampled] == [1_000, 2_000, 3_000, 4_000]
    assert resampled[-1]["value"] > 0


def test_methods_with_another_cure_refuse_it(planted: Any) -> None:
    fields = {"architecture": "topk", "k": 2, "d_sae": 48, "n_tokens": 100}
    config = dictionary_config({**fields, "resample_every_tokens": 10})
    with pytest.raises(UserError, match="resample_every_tokens is for dictionaries without another way"):
        TrainingRun(config, planted, torch.device("cpu"))
