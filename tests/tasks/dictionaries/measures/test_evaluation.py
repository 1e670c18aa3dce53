"""The rows of an evaluation, on a real activation set of an embedded model."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.errors import UserError
from tasks.activations.language_model import LanguageModel
from tasks.activations.shards import ActivationSet
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.measures.evaluation import SCHEMA, evaluate
from tasks.dictionaries.training.trainer import train


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
