"""Dictionaries trained with the language model in the loop."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from tasks.activations.models.embedded import EMBEDDED_MODELS
from tasks.activations.models.language_model import LanguageModel, ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.measures.fidelity import measure_fidelity
from tasks.training.end_to_end_run import EndToEndRun, SequenceFeed
from tasks.training.memory import NotEnoughMemory
from tasks.training.trainer import TrainedDictionary, TrainingInterrupted, train

MODEL = ModelConfig(id=EMBEDDED_MODELS[0], source="embedded")


def make_config(**changes: Any) -> Any:
    fields = {"architecture": "end_to_end", "d_sae": 96, "n_tokens": 4_096, "batch_tokens": 256, "lr": 4e-3}
    return dictionary_config({**fields, "l1_coefficient": 0.3, **changes})


def fit(config: Any, activations: Any, scratch: Path, **changes: Any) -> TrainedDictionary:
    options: dict[str, Any] = {"model": MODEL, "device": "cpu", "n_threads": 1}
    return train(config, activations, scratch, **{**options, **changes})


def values(result: TrainedDictionary, metric: str) -> list[float]:
    return [row["value"] for row in result.log.to_pylist() if row["metric"] == metric]


@pytest.fixture(scope="module")
def trained(activation_set: ActivationSet, tmp_path_factory: pytest.TempPathFactory) -> TrainedDictionary:
    return fit(make_config(downstream_coefficient=1.0), activation_set, tmp_path_factory.mktemp("e2e"))


def test_sequences_come_in_a_new_order_each_epoch_and_go_on_at_any_place(
    activation_set: ActivationSet,
) -> None:
    activations, config = HookpointActivations.of(activation_set), make_config(batch_tokens=3 * 64 + 5)
    feed = SequenceFeed(activations, config)
    n_train = len(activation_set.sequence_rows("train"))
    taken = [feed.next_batch() for _ in range(2 * n_train)]
    positions = torch.cat(taken).split(n_train)
    assert all(len(batch) == 3 for batch in taken)
    assert sorted(positions[0].tolist()) == activation_set.sequence_rows("train").tolist()
    assert sorted(positions[1].tolist()) == sorted(positions[0].tolist())
    assert not torch.equal(positions[0], positions[1])
    for n_before in (1, n_train // 3 + 1):
        ahead, behind = SequenceFeed(activations, config), SequenceFeed(activations, config)
        for _ in range(n_before):
            ahead.next_batch()
        behind.go_to(ahead.position)
        assert torch.equal(behind.next_batch(), ahead.next_batch())


def test_the_loss_is_the_kl_of_the_spliced_model(
    activation_set: ActivationSet, language_model: LanguageModel
) -> None:
    config = make_config(sparsity_warmup_steps=0)
    run = EndToEndRun(config, activation_set, torch.device("cpu"), language_model)
    run.start()
    rows_S = run.feed.next_batch()
    folded = build_dictionary(config, activation_set.d_in).requires_grad_(False)
    folded.load_state_dict(run.dictionary.state_dict())
    folded.fold_scale(*run.activations.split_vector(run.scale_vector()))
    step = run.learn(rows_S)
    # The same sequences through the measurement of fidelity, which scores tokens with a successor.
    mean_D = torch.zeros(activation_set.d_in)
    measured = measure_fidelity(
        language_model,
        activation_set.tokens,
        rows_S.numpy(),
        activation_set.hookpoint,
        mean_D,
        {"dictionary": folded},
    )
    assert float(step.parts["kl"]) == pytest.approx(measured.kl("dictionary"), rel=0.1)
    n_valid = int(activation_set.tokens.valid[rows_S.numpy()].sum())
    assert run.state.n_tokens == n_valid
    expected = float(step.parts["kl"]) + 0.3 * float(step.parts["l1"])
    assert float(step.loss) == pytest.approx(expected, rel=1e-6)


def test_parts_of_a_batch_add_up(activation_set: ActivationSet, language_model: LanguageModel) -> None:
    def gradient(part_tokens: int) -> tuple[torch.Tensor, float]:
        run = EndToEndRun(make_config(), activation_set, torch.device("cpu"), language_model)
        run.start()
        run.part_tokens = part_tokens
        step = run.learn(run.feed.next_batch())
        assert run.dictionary.W_enc.grad is not None
        return run.dictionary.W_enc.grad, float(step.loss)

    whole, loss = gradient(256)
    parts, loss_of_parts = gradient(64)
    assert loss_of_parts == pytest.approx(loss, rel=1e-5)
    assert (parts - whole).norm() < 1e-4 * whole.norm()


def test_parts_are_as_small_as_memory_wants(
    activation_set: ActivationSet, language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(free_bytes: int) -> EndToEndRun:
        monkeypatch.setattr("tasks.training.end_to_end_run.free_memory_bytes", lambda _: free_bytes)
        run = EndToEndRun(make_config(), activation_set, torch.device("cpu"), language_model)
        run.start()
        run.plan_memory()
        return run

    roomy = plan(2**33)
    assert roomy.part_tokens == 256
    assert all(parameter.grad is None for parameter in roomy.dictionary.parameters())
    logits_bytes = 64 * language_model.spec.vocab_size * 4
    one_sequence = roomy._measure_sequence()
    assert one_sequence > 3 * logits_bytes
    assert plan(int(2.8 * one_sequence)).part_tokens == 2 * 64
    with pytest.raises(NotEnoughMemory, match="one sequence of 64 tokens through the model takes"):
        plan(one_sequence // 2)


def test_training_lowers_the_kl_and_the_damage_downstream(trained: TrainedDictionary) -> None:
    kl, downstream = values(trained, "kl"), values(trained, "downstream_fvu")
    assert sum(kl[-2:]) < 0.5 * sum(kl[:2])
    assert sum(downstream[-2:]) < 0.8 * sum(downstream[:2])
    config = trained.dictionary.config.canonical()
    assert (config["architecture"], config["objective"]) == ("end_to_end", "e2e")
    torch.testing.assert_close(trained.dictionary.W_dec.norm(dim=1), torch.ones(96))


def test_the_language_model_gets_no_gradient(
    activation_set: ActivationSet, language_model: LanguageModel
) -> None:
    before = [parameter.clone() for parameter in language_model.model.parameters()]
    run = EndToEndRun(make_config(), activation_set, torch.device("cpu"), language_model)
    run.start()
    run.step()
    after = list(language_model.model.parameters())
    assert all(parameter.grad is None for parameter in after)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_resumed_equals_unbroken_bit_for_bit(
    trained: TrainedDictionary, activation_set: ActivationSet, tmp_path: Path
) -> None:
    config = make_config(downstream_coefficient=1.0)
    for steps in (1, 3):
        calls = count(1)
        with pytest.raises(TrainingInterrupted):
            fit(
                config,
                activation_set,
                tmp_path,
                should_stop=lambda calls=calls, steps=steps: next(calls) >= steps,
            )
    resumed = fit(config, activation_set, tmp_path)
    for name, tensor in trained.dictionary.state_dict().items():
        assert torch.equal(tensor, resumed.dictionary.state_dict()[name]), name
    assert resumed.log.equals(trained.log)


def test_saved_and_loaded_it_is_the_same(
    trained: TrainedDictionary, activation_set: ActivationSet, tmp_path: Path
) -> None:
    save_dictionary(trained.dictionary, tmp_path)
    x_ND = torch.randn(50, activation_set.d_in, generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_dictionary(tmp_path)(x_ND), trained.dictionary(x_ND))


def test_it_is_not_trained_without_the_language_model(activation_set: ActivationSet, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trains with the language model: name the model"):
        fit(make_config(), activation_set, tmp_path, model=None)


def test_a_process_whose_sequences_are_empty_adds_nothing(
    activation_set: ActivationSet, language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(downstream_coefficient=1.0)
    run = EndToEndRun(config, activation_set, torch.device("cpu"), language_model)
    run.start()
    rows_S = run.feed.next_batch()
    usual = run.learn(rows_S)
    monkeypatch.setattr(run, "_valid", lambda rows: torch.zeros(len(rows), 64, dtype=torch.bool))
    run._rows_S = rows_S.numpy()
    empty = run._gradient(torch.empty(0, activation_set.d_in), torch.empty(0), 100)
    assert (float(empty.loss), empty.parts.keys(), bool(empty.fired.any())) == (
        0.0,
        usual.parts.keys(),
        False,
    )
