"""The training loop: a stopped training ends as an unbroken one, bit for bit."""

from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from catalog.faults import InjectedFault
from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.dictionaries.training_state import TrainingStep
from tasks.training.gradients import batch_gradient
from tasks.training.trainer import (
    NonFiniteLoss,
    TrainedDictionary,
    TrainingInterrupted,
    TrainingRun,
    train,
)

NAMES = tuple(name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained == "steps")


def make_config(name: str, **changes: Any) -> Any:
    fields = {"architecture": name, "d_sae": 48, "n_tokens": 6_000, "batch_tokens": 100, "lr": 3e-3}
    extra = {"buffer_tokens": 2_000, "dead_after_tokens": 500}
    return dictionary_config({**fields, **extra, **ARCHITECTURES[name].Config.example, **changes})


def stop_at(step: int) -> Any:
    calls = count(1)
    return lambda: next(calls) >= step


def assert_same(a: TrainedDictionary, b: TrainedDictionary) -> None:
    for name, tensor in a.dictionary.state_dict().items():
        assert torch.equal(tensor, b.dictionary.state_dict()[name]), name
    assert a.log.equals(b.log)
    assert (a.scales, a.n_nonfinite) == (b.scales, b.n_nonfinite)


@pytest.mark.parametrize("name", NAMES)
def test_resumed_equals_unbroken_bit_for_bit(name: str, planted_for: Any, tmp_path: Path) -> None:
    config, planted = make_config(name), planted_for(name).activations
    unbroken = train(config, planted, tmp_path / "unbroken", device="cpu", n_threads=1)
    for steps in (1, 17, 25):  # stopped three times, twice in mid buffer
        with pytest.raises(TrainingInterrupted):
            train(config, planted, tmp_path / "broken", device="cpu", n_threads=1, should_stop=stop_at(steps))
        torch.rand(7)  # what happens in between must not matter
    resumed = train(config, planted, tmp_path / "broken", device="cpu", n_threads=1)
    assert_same(resumed, unbroken)


def test_log_has_no_gap_and_no_repeat(planted: Any, tmp_path: Path) -> None:
    config = make_config("topk")
    with pytest.raises(TrainingInterrupted):
        train(config, planted, tmp_path, device="cpu", n_threads=1, should_stop=stop_at(31))
    rows = train(config, planted, tmp_path, device="cpu", n_threads=1).log.to_pylist()
    assert [row["step"] for row in rows if row["metric"] == "loss"] == list(range(1, 61))
    assert [row["n_tokens"] for row in rows if row["metric"] == "loss"] == list(range(100, 6_001, 100))
    assert {row["metric"] for row in rows} == {"loss", "fvu", "l0", "lr", "unseen_share", "aux_loss"}


def test_a_finished_training_is_returned_without_a_step(planted: Any, tmp_path: Path) -> None:
    config = make_config("batch_topk")
    first = train(config, planted, tmp_path, device="cpu", n_threads=1)
    again = train(
        config, planted, tmp_path, device="cpu", n_threads=1, listener=lambda _: pytest.fail("a step")
    )
    assert_same(again, first)


def test_number_of_threads_is_resumed_and_given_back(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("topk", n_tokens=600)
    used = []

    def gradient(*args: Any, **kwargs: Any) -> TrainingStep:
        used.append(torch.get_num_threads())
        return batch_gradient(*args, **kwargs)

    monkeypatch.setattr("tasks.training.run.batch_gradient", gradient)
    with pytest.raises(TrainingInterrupted):
        train(config, planted, tmp_path, device="cpu", n_threads=2, should_stop=stop_at(3))
    assert torch.get_num_threads() == 1
    train(config, planted, tmp_path, device="cpu", n_threads=1)
    assert used == [2] * 6


def test_another_configuration_does_not_take_up_a_checkpoint(planted: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(make_config("topk"), planted, tmp_path, device="cpu", should_stop=stop_at(2))
    with pytest.raises(UserError, match="belongs to another configuration"):
        train(make_config("topk", seed=1), planted, tmp_path, device="cpu")


def test_a_changed_evaluation_takes_up_the_checkpoint(planted: Any, tmp_path: Path) -> None:
    """How a dictionary is measured later is no part of its training."""
    unbroken = train(make_config("topk"), planted, tmp_path / "unbroken", device="cpu", n_threads=1)
    with pytest.raises(TrainingInterrupted):
        train(
            make_config("topk"),
            planted,
            tmp_path / "broken",
            device="cpu",
            should_stop=stop_at(2),
            n_threads=1,
        )
    changed = make_config("topk", evaluation={"max_tokens": 7, "seed": 3})
    assert_same(train(changed, planted, tmp_path / "broken", device="cpu", n_threads=1), unbroken)


def test_learning_rate_warms_up_and_decays(planted: Any) -> None:
    run = TrainingRun(make_config("topk", n_tokens=100_000, lr=1.0), planted, torch.device("cpu"))
    rates = []
    for step in range(1000):
        run.state.step = step
        rates.append(run.learning_rate())
    assert rates[0] == pytest.approx(1 / 50)
    assert rates[49] == rates[500] == rates[800] == 1.0
    assert rates[900] == pytest.approx(0.5)
    assert rates[999] == pytest.approx(1 / 200)


def test_cosine_decay_ends_the_same_and_falls_later(planted: Any) -> None:
    config = make_config("topk", n_tokens=100_000, lr=1.0, decay="cosine", decay_share=0.5)
    run = TrainingRun(config, planted, torch.device("cpu"))
    rates = []
    for run.state.step in (500, 625, 750, 875, 999):
        rates.append(run.learning_rate())
    assert rates == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 9.86956e-6], rel=1e-4)


def test_a_gradient_that_is_not_finite_is_named_before_it_does_harm(planted: Any) -> None:
    run = TrainingRun(make_config("relu_l1"), planted, torch.device("cpu"))
    run.start()
    before = {name: value.clone() for name, value in run.dictionary.state_dict().items()}
    run.dictionary.b_enc.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(
        NonFiniteLoss, match="at step 1: the gradient of b_enc holds values that are not finite"
    ):
        run.step()
    for name, value in run.dictionary.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_extreme_activations_are_named(planted: Any) -> None:
    run = TrainingRun(make_config("topk", normalisation="none"), planted, torch.device("cpu"))
    run.start()
    with pytest.raises(NonFiniteLoss, match=r"at step 1: the batch holds values up to 1e\+30: lower lr"):
        run.learn(torch.full((100, 16), 1e30))


def test_default_learning_rate_follows_width_and_length() -> None:
    def rate(n_steps: int, d_sae: int) -> float:
        return float(make_config("topk", lr=None, d_sae=d_sae, n_tokens=100 * n_steps).base_lr(16))

    assert rate(10**6, 2**14) == rate(10**5, 2**14) == pytest.approx(2e-4)
    assert rate(10**5, 2**10) == pytest.approx(8e-4)
    assert rate(25_000, 2**10) == pytest.approx(16e-4)
    assert rate(10, 2**10) == pytest.approx(32e-4)


def test_the_memory_of_adam_is_no_longer_than_a_thirtieth_of_the_training() -> None:
    def betas(n_steps: int, name: str = "jumprelu", **changes: Any) -> tuple[float, float]:
        config = make_config(name, n_tokens=100 * n_steps, **changes)
        found: tuple[float, float] = config.betas
        return found

    assert betas(100) == betas(480) == (0.0, 0.9375)
    assert betas(3_000) == pytest.approx((0.0, 0.99))
    assert betas(30_000) == betas(10**6) == (0.0, 0.999)
    assert betas(100, beta2=0.95) == (0.0, 0.95)
    assert betas(100, "topk") == (0.9, 0.999)
    for name in ("relu_l1", "gated", "transcoder", "jumprelu_transcoder", "group_bias_adaptation"):
        assert betas(100, name)[1] == 0.9375, name


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_finite_ends_the_training(name: str, planted: Any, tmp_path: Path) -> None:
    run = TrainingRun(make_config(name), planted, torch.device("cpu"))
    run.start()
    with torch.no_grad():
        run.dictionary.W_dec[0, 0] = torch.inf
        run.dictionary.b_enc[0] = 100
    with pytest.raises(
        NonFiniteLoss, match="at step 1: the parameter W_dec holds values that are not finite: lower lr"
    ):
        run.step()


def test_constant_activations_are_refused(planted: Any, tmp_path: Path) -> None:
    class Constant:
        d_in, context_length, tokens = planted.d_in, planted.context_length, planted.tokens
        sequence_rows = staticmethod(planted.sequence_rows)

        @staticmethod
        def read(rows: Any) -> Any:
            return planted.read(rows) * 0 + 3

    with pytest.raises(UserError, match="all activations are equal"):
        train(make_config("topk"), Constant(), tmp_path, device="cpu")


def test_sparse_training_follows_a_dense_reference(planted: Any) -> None:
    """TopK against plain autograd on dense matrices, AuxK included: losses equal within 1e-3."""
    run = TrainingRun(
        make_config("topk", n_tokens=130_000, dead_after_tokens=300), planted, torch.device("cpu")
    )
    reference = TrainingRun(run.config, planted, torch.device("cpu"))
    reference.dictionary.training_loss = dense_loss(reference)  # type: ignore[method-assign]
    for each in (run, reference):
        each.start()
    worst = aux_seen = 0.0
    for _ in range(500):
        a, b = run.step(), reference.step()
        worst = max(worst, abs(float(a.loss.detach() / b.loss.detach()) - 1))
        aux_seen = max(aux_seen, float(a.parts["aux_loss"]))
    assert worst < 1e-3
    assert aux_seen > 0, "the comparison is meant to cover AuxK"


def dense_loss(run: TrainingRun) -> Any:
    dictionary: Any = run.dictionary

    def loss(x: torch.Tensor, _: torch.Tensor, state: Any) -> TrainingStep:
        acts = ((x - dictionary.b_dec) @ dictionary.W_enc + dictionary.b_enc).relu()
        top = acts.topk(dictionary.config.k, dim=1)
        codes = torch.zeros_like(acts).scatter(1, top.indices, top.values)
        error = x - dictionary.b_dec - codes @ dictionary.W_dec
        aux = torch.zeros(())
        if state.dead.any():
            residual = error.detach()
            dead = acts * state.dead
            best = dead.topk(min(dictionary.config.n_aux(16), int(state.dead.sum())), dim=1)
            estimate = torch.zeros_like(acts).scatter(1, best.indices, best.values) @ dictionary.W_dec
            spread = (residual - residual.mean(dim=0)).square().sum()
            aux = (residual - estimate).square().sum() / spread
        sse = error.square().sum(dim=1).mean()
        total = sse / state.total_variance + dictionary.config.aux_alpha * aux
        return TrainingStep(total, sse.detach(), codes.count_nonzero() / len(x), (codes > 0).any(dim=0))

    return loss


POINTS = ["train.step", *(f"checkpoint.{name}" for name in ("tensors", "write", "rename", "latest"))]


@pytest.mark.parametrize("point", [*POINTS, "checkpoint.pointer.write", "checkpoint.pointer.rename"])
def test_a_training_survives_every_fault_point(
    point: str, planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at the n-th visit of a point for growing n, each time going on, until it runs through."""
    config = make_config("topk", n_tokens=500)
    unbroken = train(config, planted, tmp_path / "unbroken", device="cpu", n_threads=1)
    n_faults = 0
    for visit in count(1):
        monkeypatch.setattr("catalog.faults._visits", Counter())
        monkeypatch.setenv("FEATLAS_FAULT", f"{point}:{visit}:raise")
        broken = tmp_path / f"broken-{visit}"
        try:
            train(config, planted, broken, device="cpu", n_threads=1, checkpoint_seconds=0)
            break
        except InjectedFault:
            n_faults += 1
        monkeypatch.delenv("FEATLAS_FAULT")
        resumed = train(config, planted, broken, device="cpu", n_threads=1, checkpoint_seconds=0)
        assert_same(resumed, unbroken)
    assert n_faults >= 5
