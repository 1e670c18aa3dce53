"""Baselines: neurons, principal components, random directions, differences of means."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import tasks.dictionaries.fitted
from catalog.errors import UserError
from tasks.common.progress import Progress
from tasks.dictionaries.base import (
    ARCHITECTURES,
    AnyDictionaryConfig,
    Dictionary,
    build_dictionary,
    dictionary_config,
)
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.metrics import ReconstructionSums
from tasks.dictionaries.weights import load_dictionary, save_dictionary
from tasks.measures.controls import fit_pca
from tasks.training.trainer import TrainedDictionary, TrainingInterrupted, train

SETTINGS: dict[str, dict[str, Any]] = {
    "neurons": {},
    "pca": {"n_components": 6},
    "random_directions": {"d_sae": 48, "k": 3},
    "difference_of_means": {"label": "topic"},
    "snmf": {"d_sae": 8, "n_tokens": 2_000, "max_iterations": 40},
}
NAMES = tuple(SETTINGS)
TOPICS = ("birds", "fish", "stones")


def make_config(name: str, **changes: Any) -> DictionaryConfig:
    return dictionary_config({"architecture": name, **SETTINGS[name], **changes})


class Labelled:
    """Activations of documents about three topics, each topic shifted along a direction of its own."""

    d_in, context_length, n_sequences = 16, 16, 90

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.directions = np.eye(16)[:3] * 3
        self.values = random.standard_normal((90, 16, 16)).astype(np.float32)
        document_ST = np.broadcast_to(np.arange(90)[:, None], (90, 16))
        self.values += self.directions[np.arange(90) % 3].astype(np.float32)[:, None]
        valid_ST = np.ones((90, 16), dtype=bool)
        valid_ST[:, 0] = False
        self.tokens = SimpleNamespace(valid=valid_ST, document_index=document_ST)

    def sequence_rows(self, split: str) -> Any:
        return np.arange(60) if split == "train" else np.arange(60, 90)

    def read(self, rows: Any) -> Any:
        return self.values[rows]


def write_labels(path: Path, labels: list[list[tuple[str, str]]]) -> Path:
    column = pa.array(labels, pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"labels": column}), path)
    return path


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [[("topic", TOPICS[number % 3]), ("author", "someone")] for number in range(90)]
    return write_labels(tmp_path_factory.mktemp("labels") / "labels.parquet", rows)


@pytest.fixture(scope="module")
def fitted(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedDictionary]:
    scratch = tmp_path_factory.mktemp("fits")
    return {
        name: train(make_config(name), Labelled(), scratch / name, device="cpu", labels=labels)
        for name in NAMES
    }


def fvu(dictionary: Dictionary, x_ND: torch.Tensor) -> float:
    sums = ReconstructionSums()
    sums.add(x_ND, dictionary(x_ND))
    value = sums.values()[("fvu", "")]
    assert value is not None
    return value


def train_tokens(activations: Any) -> torch.Tensor:
    rows = activations.sequence_rows("train")
    return torch.from_numpy(activations.values[rows][activations.tokens.valid[rows]]).float()


def test_every_fitted_method_is_covered_here() -> None:
    names = [name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained == "fit"]
    assert sorted(SETTINGS) == names


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_is_never_silent_for_two_batches(
    name: str, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every read and every part of the sample that is measured is followed by a word to the listener."""
    monkeypatch.setattr(tasks.dictionaries.fitted, "_TOKENS_PER_READ", 64)
    events: list[Progress | None] = []
    read, add = Labelled.read, ReconstructionSums.add
    monkeypatch.setattr(Labelled, "read", lambda self, rows: events.append(None) or read(self, rows))
    monkeypatch.setattr(ReconstructionSums, "add", lambda self, *of: events.append(None) or add(self, *of))
    train(make_config(name), Labelled(), tmp_path, device="cpu", labels=labels, listener=events.append)
    silences = "".join("r" if event is None else " " for event in events).split()
    assert len(silences) >= 10, "there is something to wait for"
    assert max(map(len, silences)) == 1
    told = [event for event in events if event is not None]
    assert all(0 <= event.done <= event.total for event in told)


@pytest.mark.parametrize("name", NAMES)
def test_config_survives_a_round_trip_also_with_what_the_fit_found(name: str, fitted: Any) -> None:
    adapter = TypeAdapter(AnyDictionaryConfig)
    for config in (make_config(name), fitted[name].dictionary.config):
        again = adapter.validate_python(adapter.dump_python(config, mode="json"))
        assert (again, type(again)) == (config, type(config))


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_gradient_steps_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} is fitted, not trained by steps: leave lr out"):
        make_config(name, lr=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_dense_and_sparse_codes_agree_and_unit_norms_hold(name: str, fitted: Any) -> None:
    dictionary, x_ND = fitted[name].dictionary, train_tokens(Labelled())[:200]
    codes_NL = dictionary.encode(x_ND)
    values_NK, indices_NK = dictionary.encode_sparse(x_ND)
    assert codes_NL.min() >= 0
    assert torch.equal(torch.zeros_like(codes_NL).scatter_add(1, indices_NK, values_NK), codes_NL + 0.0)
    torch.testing.assert_close(dictionary(x_ND), dictionary.decode_sparse(values_NK, indices_NK, x_ND))
    torch.testing.assert_close(dictionary.encode(x_ND[7:8]), codes_NL[7:8], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(dictionary.d_sae))


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_baseline_is_the_same(name: str, fitted: Any, tmp_path: Path) -> None:
    dictionary, x_ND = fitted[name].dictionary, train_tokens(Labelled())[:100]
    save_dictionary(dictionary, tmp_path)
    again = load_dictionary(tmp_path)
    assert torch.equal(again.encode(x_ND), dictionary.encode(x_ND))
    assert (again.config, again.d_sae) == (dictionary.config, dictionary.d_sae)


@pytest.mark.parametrize("name", NAMES)
def test_folding_a_scale_changes_units_alone(name: str, fitted: Any) -> None:
    x_ND, scale = train_tokens(Labelled())[:50], 0.2
    dictionary = fitted[name].dictionary
    scaled = build_dictionary(dictionary.config, 16)
    scaled.load_state_dict(dictionary.state_dict())
    codes_NL = dictionary.encode(x_ND * scale)
    scaled.fold_scale(torch.full((16,), scale), torch.full((16,), scale))
    torch.testing.assert_close(scaled.encode(x_ND), codes_NL / scale, atol=1e-3, rtol=1e-3)


def test_neurons_are_split_where_they_take_both_signs(tmp_path: Path) -> None:
    activations = Labelled()
    activations.values[..., 4:] = np.abs(activations.values[..., 4:])
    result = train(make_config("neurons"), activations, tmp_path, device="cpu")
    dictionary, x_ND = result.dictionary, train_tokens(activations)
    assert (dictionary.unit_type, dictionary.origin, dictionary.d_sae) == ("neuron", "baseline", 20)
    assert torch.equal(dictionary(x_ND), x_ND)
    codes_NL = dictionary.encode(x_ND)
    assert torch.equal(codes_NL[:, :16], x_ND.relu())
    assert torch.equal(codes_NL[:, 16:], (-x_ND[:, :4]).relu())
    strongest = train(make_config("neurons", k=3), activations, tmp_path / "k", device="cpu").dictionary
    values_NK, _ = strongest.encode_sparse(x_ND)
    assert torch.equal(values_NK, x_ND.abs().topk(3).values)
    with pytest.raises(UserError, match="has 20 units on these activations, not 32: leave d_sae out"):
        train(make_config("neurons", d_sae=32), activations, tmp_path / "wide", device="cpu")


def test_pca_explains_what_the_first_components_explain(fitted: Any, tmp_path: Path) -> None:
    x_ND = train_tokens(Labelled())
    dictionary = fitted["pca"].dictionary
    reference_ND = fit_pca(x_ND, 6)(x_ND)
    torch.testing.assert_close(dictionary(x_ND), reference_ND, atol=1e-4, rtol=1e-4)
    assert (dictionary.encode(x_ND) > 0).sum(dim=1).tolist() == [6] * len(x_ND)
    assert torch.equal(dictionary.W_dec[6:], -dictionary.W_dec[:6])
    every = train(make_config("pca", n_components=None), Labelled(), tmp_path, device="cpu").dictionary
    assert fvu(every, x_ND) < 1e-9
    assert every.config.name() == "pca"
    assert make_config("pca", k=2).name() == "pca-c6-k2"


def test_random_directions_are_those_of_their_seed_at_their_best(fitted: Any, tmp_path: Path) -> None:
    x_ND, first = train_tokens(Labelled()), fitted["random_directions"].dictionary
    again = train(make_config("random_directions"), Labelled(), tmp_path / "0", device="cpu").dictionary
    other = train(make_config("random_directions", seed=1), Labelled(), tmp_path / "1", device="cpu")
    assert torch.equal(again.W_dec, first.W_dec)
    assert not torch.equal(other.dictionary.W_dec, first.W_dec)
    at_best = fvu(first, x_ND)
    for factor in (0.9, 1.1):
        changed = build_dictionary(first.config, 16).requires_grad_(False)
        changed.load_state_dict(first.state_dict())
        changed.W_enc.mul_(factor)
        changed.b_enc.mul_(factor)
        assert fvu(changed, x_ND) > at_best


def test_difference_of_means_finds_the_direction_of_each_label(fitted: Any) -> None:
    activations, dictionary = Labelled(), fitted["difference_of_means"].dictionary
    assert dictionary.config.values == TOPICS
    assert dictionary.origin == "baseline"
    directions = torch.from_numpy(activations.directions).float()
    expected = directions - (directions.sum(dim=0) - directions) / 2
    cosine = torch.nn.functional.cosine_similarity(dictionary.W_dec, expected)
    assert cosine.min() > 0.99
    rows = activations.sequence_rows("eval")
    x_NTD = torch.from_numpy(activations.values[rows])
    active_NTC = dictionary.encode(x_NTD.reshape(-1, 16)).reshape(30, 16, 3) > 0
    for topic in range(3):
        has_topic = torch.from_numpy(rows % 3 == topic)
        assert active_NTC[has_topic][..., topic].float().mean() > 0.9
        assert active_NTC[~has_topic][..., topic].float().mean() < 0.1


def test_values_without_train_tokens_get_no_direction(tmp_path: Path) -> None:
    rows = [[("topic", "stars" if number >= 60 else TOPICS[number % 2])] for number in range(90)]
    path = write_labels(tmp_path / "labels.parquet", rows)
    result = train(make_config("difference_of_means"), Labelled(), tmp_path, device="cpu", labels=path)
    assert result.dictionary.config.values == ("birds", "fish")
    torch.testing.assert_close(result.dictionary.W_dec[0], -result.dictionary.W_dec[1])


def test_difference_of_means_refuses_labels_that_are_not_there(labels: Path, tmp_path: Path) -> None:
    def fit(path: Path | None, **changes: Any) -> None:
        config = make_config("difference_of_means", **changes)
        train(config, Labelled(), tmp_path, device="cpu", labels=path)

    with pytest.raises(UserError, match="no label column 'language': its documents have author, topic"):
        fit(labels, label="language")
    with pytest.raises(UserError, match="no label column 'topic': its documents have no labels"):
        fit(None)
    with pytest.raises(UserError, match="no train token of a document whose topic is 'clouds'"):
        fit(labels, values=("birds", "clouds"))
    with pytest.raises(UserError, match="every train token belongs to author = 'someone'"):
        fit(labels, label="author")
    with pytest.raises(UserError, match="the labels of 5 documents are known"):
        fit(write_labels(tmp_path / "few.parquet", [[("topic", "birds")]] * 4 + [[("topic", "fish")]]))


def test_a_stopped_fit_says_so_and_a_rerun_fits(tmp_path: Path) -> None:
    calls = count()
    with pytest.raises(TrainingInterrupted):
        train(make_config("pca"), Labelled(), tmp_path, device="cpu", should_stop=lambda: next(calls) == 0)
    assert train(make_config("pca"), Labelled(), tmp_path, device="cpu").dictionary.d_sae == 12


def test_too_many_broken_activations_are_refused(tmp_path: Path) -> None:
    activations = Labelled()
    activations.values[0, 1:4] = np.nan
    with pytest.raises(UserError, match="3 of 900 activations are NaN or infinite"):
        train(make_config("pca"), activations, tmp_path, device="cpu")
