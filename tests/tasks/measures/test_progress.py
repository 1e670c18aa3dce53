"""An evaluation tells how far it is after each batch it reads and each run of the model."""

from typing import Any

import pytest

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.shards import ActivationSet
from tasks.common.progress import Progress
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.measures import eval_tokens, fidelity
from tasks.measures.evaluation import evaluate

SEQUENCES = 4


class Watched:
    """An activation set that says when it is read."""

    def __init__(self, activations: ActivationSet, events: list[Progress | None]) -> None:
        self.activations, self.events = activations, events

    def __getattr__(self, name: str) -> Any:
        return getattr(self.activations, name)

    def read(self, rows: Any) -> Any:
        self.events.append(None)
        return self.activations.read(rows)


def test_an_evaluation_is_never_silent_for_two_batches(
    activation_set: ActivationSet, language_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, vocabulary = activation_set.context_length, language_model.spec.vocab_size
    monkeypatch.setattr(eval_tokens, "_CODES_PER_BATCH", 64 * context)
    monkeypatch.setattr(fidelity, "_LOGITS_PER_BATCH", vocabulary * context)
    config = dictionary_config({"architecture": "topk", "k": 4, "d_sae": 64, "n_tokens": 1})
    dictionary = build_dictionary(config, activation_set.d_in).requires_grad_(False)
    limits = EvaluationConfig(
        max_tokens=SEQUENCES * context, max_control_tokens=context, fidelity_sequences=SEQUENCES
    )
    events: list[Progress | None] = []
    hook = language_model.model.register_forward_pre_hook(lambda *_: events.append(None))
    try:
        evaluate(dictionary, Watched(activation_set, events), language_model, limits, listener=events.append)
    finally:
        hook.remove()
    n_forwards = SEQUENCES * 6  # untouched, two ablations, the dictionary, two controls
    assert events.count(None) >= 3 * SEQUENCES + n_forwards
    silent = "".join("r" if event is None else " " for event in events).split()
    assert max(map(len, silent)) == 1
    told = [progress for progress in events if progress is not None]
    assert all(0 <= progress.done <= progress.total for progress in told)
    assert {progress.what for progress in told} == {
        "sequences reconstructed",
        "controls fitted",
        "sequences for the linear control",
        "sequences for the random control",
        "sequences predicted",
    }
