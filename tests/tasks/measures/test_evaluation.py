"""The rows of an evaluation, on a real activation set of an embedded model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from catalog.errors import UserError
from dashboards.components.definitions import CE_RECOVERED
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.stream import sample_rows
from tasks.measures.evaluation import SCHEMA, evaluate
from tasks.measures.fidelity import measure_fidelity
from tasks.measures.shared_controls import SharedControls
from tasks.training.trainer import train
from tests.tasks.conftest import PlantedActivations


def by_name(table: pa.Table) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric"], row["variant"]): row for row in table.to_pylist()}


def test_a_trained_dictionary_beats_its_controls(
    activation_set: ActivationSet, language_model: LanguageModel, tmp_path: Path
) -> None:
    sizes = {"expansion_factor": 2, "n_tokens": 120_000, "batch_tokens": 512}
    config = dictionary_config({"architecture": "topk", "k": 12, **sizes})
    trained = train(config, activation_set, tmp_path, device="cpu", n_threads=1)
    table = evaluate(
        trained.dictionary, activation_set, language_model, EvaluationConfig(fidelity_sequences=8)
    )
    assert table.schema == SCHEMA
    rows = by_name(table)
    assert len(rows) == table.num_rows, "metric and variant are a key"
    fvu = rows["fvu", ""]
    control = json.loads(fvu["control"])
    assert fvu["value"] < control["pca"] < control["random"] < 1
    assert control["k"] == 12
    assert fvu["n"] == activation_set.n_valid_tokens("eval")
    assert rows["l0", ""]["value"] == pytest.approx(12, abs=0.5)
    recovered = rows["ce_recovered", "mean_ablation"]
    assert json.loads(recovered["control"])["random"] < recovered["value"] <= 1.01
    damage = rows["ce", "mean_ablation"]["value"] - rows["ce", "clean"]["value"]
    delta = rows["ce", "dictionary"]["value"] - rows["ce", "clean"]["value"]
    assert rows["delta_ce", ""]["value"] == pytest.approx(delta)
    assert recovered["value"] == pytest.approx(1 - delta / damage)
    assert all(row["split"] == "eval" and row["metric_version"] >= 1 for row in rows.values())
    assert all(row["value"] is not None or row["note"] for row in rows.values())


@pytest.mark.parametrize("n_sequences", [1, 1_000])
def test_the_mean_of_the_ablation_is_of_as_many_tokens_as_is_said(
    activation_set: ActivationSet, language_model: LanguageModel, n_sequences: int
) -> None:
    """Of the train tokens that the controls are fitted on; the pages and the reference give their number."""
    n_tokens = n_sequences * activation_set.context_length
    limits = EvaluationConfig(fidelity_sequences=2, max_control_tokens=n_tokens, max_tokens=256)
    config = dictionary_config({"architecture": "topk", "k": 4, "d_sae": 64, "n_tokens": 1})
    dictionary = build_dictionary(config, activation_set.d_in).requires_grad_(False)
    rows = by_name(evaluate(dictionary, activation_set, language_model, limits))
    train_rows = activation_set.sequence_rows("train")
    read = sample_rows(train_rows, n_sequences)
    assert (len(read) == len(train_rows)) == (n_sequences > 1), "some tokens, and all of them"
    valid = np.asarray(activation_set.tokens.valid[read], dtype=bool)
    mean_D = torch.from_numpy(activation_set.read(read)[valid].astype(np.float32)).mean(0)
    chosen = sample_rows(activation_set.sequence_rows("eval"), 2)
    ablated = measure_fidelity(
        language_model, activation_set.tokens, chosen, activation_set.meta["hookpoint"], mean_D, {}
    )
    assert rows["ce", "mean_ablation"]["value"] == pytest.approx(ablated.ce("mean_ablation"), rel=1e-5)
    assert f"at most {EvaluationConfig().max_control_tokens:,} unless" in CE_RECOVERED


def test_without_a_model_fidelity_is_null_with_the_reason(activation_set: ActivationSet) -> None:
    config = dictionary_config({"architecture": "topk", "k": 4, "d_sae": 64, "n_tokens": 1})
    dictionary = build_dictionary(config, activation_set.d_in).requires_grad_(False)
    rows = by_name(evaluate(dictionary, activation_set, None, EvaluationConfig()))
    for variant in ("zero_ablation", "mean_ablation"):
        row = rows["ce_recovered", variant]
        assert row["value"] is None
        assert row["note"] == "no language model was given"
    assert rows["fvu", ""]["value"] is not None


def test_another_width_is_refused(activation_set: ActivationSet) -> None:
    config = dictionary_config({"architecture": "topk", "k": 4, "d_sae": 64, "n_tokens": 1})
    with pytest.raises(UserError, match="width 17"):
        evaluate(build_dictionary(config, 17), activation_set, None, EvaluationConfig())


class WithMassive(PlantedActivations):
    """The same activations, one eval token of which is enormous and points where a dictionary looks."""

    def __init__(self, along: int) -> None:
        super().__init__(n_sequences=200)
        self.massive = np.zeros((self.n_sequences, self.context_length), dtype=bool)
        self.massive[-1, 1] = True
        self.values = self.values.astype(np.float32)
        self.values[-1, 1] = 2_000 * self.directions[along]
        self.tokens.document_index = np.repeat(np.arange(self.n_sequences)[:, None], self.context_length, 1)


def directions(rows: np.ndarray) -> Dictionary:
    config = dictionary_config({"architecture": "topk", "k": 2, "d_sae": len(rows), "n_tokens": 1})
    dictionary = build_dictionary(config, rows.shape[1])
    with torch.no_grad():
        dictionary.W_dec.copy_(torch.from_numpy(rows))
        dictionary.W_enc.copy_(dictionary.W_dec.T)
        dictionary.b_dec.fill_(0.5)
    return dictionary.requires_grad_(False)


def test_one_massive_token_turns_the_ranking_round_and_the_variant_shows_it() -> None:
    """The poor dictionary has the one direction of the enormous token; the good one all but that."""
    activations = WithMassive(along=0)
    good = directions(activations.directions[1:])
    poor = directions(activations.directions[:8])
    config = EvaluationConfig(fidelity_sequences=0)
    rows = [by_name(evaluate(d, activations, None, config)) for d in (good, poor)]
    with_it = [row["fvu", ""]["value"] for row in rows]
    without = [row["fvu", "without_massive"] for row in rows]
    assert with_it[0] > with_it[1], "that token decides"
    assert without[0]["value"] < without[1]["value"], "without it the better dictionary is better"
    assert without[0]["n"] == rows[0]["fvu", ""]["n"] - 1
    for metric in ("sse_per_token", "mse", "cosine", "l2_ratio", "shrinkage"):
        assert rows[0][metric, "without_massive"]["value"] is not None
        assert json.loads(rows[0][metric, "without_massive"]["control"])["random"] is not None
    plain = PlantedActivations(n_sequences=200)
    assert ("fvu", "without_massive") not in by_name(evaluate(good, plain, None, config))


def test_intervals_are_over_documents_and_hold_the_value() -> None:
    activations = PlantedActivations(n_sequences=400)
    activations.tokens.document_index = np.repeat(np.arange(400)[:, None], activations.context_length, 1)
    rows = by_name(evaluate(directions(activations.directions[:20]), activations, None, EvaluationConfig()))
    fvu = rows["fvu", ""]
    assert fvu["n_documents"] == 40
    assert fvu["n"] == 40 * 31
    assert fvu["ci_low"] < fvu["value"] < fvu["ci_high"]
    assert rows["l0", ""]["ci_low"] <= rows["l0", ""]["value"] <= rows["l0", ""]["ci_high"]
    assert rows["unseen_share", ""]["ci_low"] is None


@pytest.mark.parametrize(("ks", "second"), [((4, 4), 1), ((4, 9), 3)])
def test_dictionaries_of_one_hookpoint_share_controls_of_their_k_and_the_ablations(
    activation_set: ActivationSet,
    language_model: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    ks: tuple[int, int],
    second: int,
) -> None:
    forwards: list[int] = []
    real = type(language_model.model).forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        forwards.append(1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(language_model.model), "forward", counted)
    config, shared = EvaluationConfig(fidelity_sequences=4, max_tokens=2_000), SharedControls()
    tables = []
    for seed, k in enumerate(ks):
        options = {"architecture": "topk", "k": k, "d_sae": 64, "n_tokens": 1, "seed": seed}
        dictionary = build_dictionary(dictionary_config(options), activation_set.d_in)
        forwards.clear()
        tables.append(evaluate(dictionary, activation_set, language_model, config, shared=shared))
        if seed == 0:
            first = len(forwards)
    n_batches = first // 6
    assert first == 6 * n_batches
    assert len(forwards) == second * n_batches, "its own, and of another k both controls"
    alone = by_name(evaluate(dictionary, activation_set, language_model, config))
    for key, row in by_name(tables[1]).items():
        assert row == {**alone[key], "value": pytest.approx(alone[key]["value"])}
