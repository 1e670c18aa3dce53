"""A dictionary's stored metrics in SAEBench's JSON form."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog.connection import connect
from catalog.errors import UserError
from catalog.exports.saebench import write_saebench
from catalog.slices import SliceWrite
from catalog.store import publish_rows

VALUES = {
    ("fvu", ""): (0.2, {"pca": 0.5}),
    ("mse", ""): (0.1, {}),
    ("shrinkage", ""): (0.9, {}),
    ("l0", ""): (16.0, {}),
    ("unseen_share", ""): (0.25, {}),
    ("kl", ""): (0.3, {}),
    ("kl_recovered", "zero_ablation"): (0.9, {}),
    ("ce_recovered", "zero_ablation"): (0.95, {}),
    ("ce", "clean"): (3.0, {}),
    ("ce", "zero_ablation"): (8.0, {}),
    ("ce", "dictionary"): (3.25, {}),
    ("ce_recovered", "mean_ablation"): (None, {}),
    ("sparse_probe_accuracy", "topic:k1"): (0.7, {"raw": 0.95, "raw_k": 0.6, "shuffled": 0.5}),
    ("sparse_probe_accuracy", "topic:k5"): (0.8, {"raw": 0.95, "raw_k": 0.65}),
    ("sparse_probe_accuracy", "lang:k1"): (0.9, {"raw": 0.99, "raw_k": 0.8}),
    ("absorption_fraction", ""): (0.3, {}),
    ("absorption_fraction", "a"): (0.2, {"random": 0.1}),
    ("absorption_fraction", "b"): (0.4, {}),
    ("absorption_full", "a"): (0.05, {}),
    ("absorption_full", "b"): (0.15, {}),
    ("split_latents", "a"): (1.0, {}),
    ("split_latents", "b"): (3.0, {}),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("saebench") / "catalogue"
    small.do_stage(root)
    rows = [
        {
            "dictionary_id": small.DICTIONARY,
            "activation_set_id": small.SET,
            "metric": metric,
            "variant": variant,
            "split": "eval",
            "value": value,
            "n": 40,
            "metric_version": 1,
            "control": json.dumps(control) if control else None,
            "note": "no damage" if value is None else None,
        }
        for (metric, variant), (value, control) in VALUES.items()
    ]
    write = SliceWrite("dictionary_metrics", small.DICTIONARY, small.table("dictionary_metrics", rows))
    publish_rows(root, [write], fingerprint="0" * 64)
    return root


def exported(root: Path, dictionary: str, folder: Path) -> dict[str, dict[str, Any]]:
    with connect(root) as connection:
        paths = write_saebench(root, connection, dictionary, folder)
    results = [json.loads(path.read_text()) for path in paths]
    assert [path.parent.name for path in paths] == [result["eval_type_id"] for result in results]
    return {result["eval_type_id"]: result for result in results}


def test_stored_values_stand_where_saebench_has_them(
    measured: Path, small: ModuleType, tmp_path: Path
) -> None:
    results = exported(measured, small.DICTIONARY[:-9], tmp_path / "a" / "b")
    assert set(results) == {"core", "sparse_probing", "absorption_first_letter"}
    core = results["core"]["eval_result_metrics"]
    assert core["reconstruction_quality"]["explained_variance"] == pytest.approx(0.8)
    assert core["model_behavior_preservation"]["kl_div_with_ablation"] == pytest.approx(3.0)
    assert core["model_performance_preservation"] == {
        "ce_loss_score": 0.95,
        "ce_loss_with_ablation": 8.0,
        "ce_loss_with_sae": 3.25,
        "ce_loss_without_sae": 3.0,
    }
    assert core["shrinkage"]["relative_reconstruction_bias"] == 0.9
    assert core["misc_metrics"]["frac_alive"] == 0.75
    assert core["misc_metrics"]["freq_over_1_percent"] == 0, "all four features have density 0.01"
    assert [detail["index"] for detail in results["core"]["eval_result_details"]] == [0, 1, 2, 3]
    assert core["sparsity"] == {"l0": 16.0, "l1": pytest.approx(0.04)}, "four features: density times mean"
    for result in results.values():
        assert len(result["eval_result_unstructured"]["metrics"]) == len(VALUES)
        assert result["datetime_epoch_millis"] == int(small.NOW.timestamp() * 1000)


NUMBERS = {
    "model_behavior_preservation": "kl_div_score kl_div_with_ablation kl_div_with_sae",
    "model_performance_preservation": "ce_loss_score ce_loss_with_ablation ce_loss_with_sae "
    "ce_loss_without_sae",
    "reconstruction_quality": "explained_variance explained_variance_legacy mse cossim",
    "shrinkage": "l2_norm_in l2_norm_out l2_ratio relative_reconstruction_bias",
    "sparsity": "l0 l1",
    "token_stats": "total_tokens_eval_reconstruction total_tokens_eval_sparsity_variance",
    "misc_metrics": "freq_over_1_percent freq_over_10_percent normalized_freq_over_1_percent "
    "normalized_freq_over_10_percent average_max_encoder_cosine_sim average_max_decoder_cosine_sim "
    "frac_alive",
}
"""Fields of SAEBench's core evaluation; its classes want a number in each."""


def test_every_field_of_the_core_evaluation_is_a_number(
    measured: Path, small: ModuleType, tmp_path: Path
) -> None:
    """What was not measured is -1, as SAEBench has it, and said to be so; nothing is made up."""
    result = exported(measured, small.DICTIONARY, tmp_path)["core"]
    metrics = result["eval_result_metrics"]
    assert {name: set(part) for name, part in metrics.items()} == {
        name: set(fields.split()) for name, fields in NUMBERS.items()
    }
    flat = {f"{category}.{name}": value for category, part in metrics.items() for name, value in part.items()}
    assert all(type(value) in (int, float) for value in flat.values())
    assert all(type(value) in (int, float) for row in result["eval_result_details"] for value in row.values())
    missing = result["eval_result_unstructured"]["not_measured"]
    assert {name for name, value in flat.items() if value == -1} == {
        name for name in missing if not name.startswith("details.")
    }
    assert "shrinkage.l2_norm_in" in missing
    assert "details.encoder_norm" in missing
    assert "sparsity.l1" not in missing


def test_probes_are_averaged_over_label_columns(measured: Path, small: ModuleType, tmp_path: Path) -> None:
    result = exported(measured, small.DICTIONARY, tmp_path)["sparse_probing"]
    metrics = result["eval_result_metrics"]
    assert metrics["sae"]["sae_top_1_test_accuracy"] == pytest.approx(0.8)
    assert metrics["sae"]["sae_top_5_test_accuracy"] == pytest.approx(0.8)
    assert metrics["sae"]["sae_top_20_test_accuracy"] is None
    assert metrics["llm"]["llm_test_accuracy"] == pytest.approx(0.97)
    assert metrics["llm"]["llm_top_1_test_accuracy"] == pytest.approx(0.7)
    assert [detail["dataset_name"] for detail in result["eval_result_details"]] == ["lang", "topic"]


def test_letters_become_details_with_their_spread(measured: Path, small: ModuleType, tmp_path: Path) -> None:
    result = exported(measured, small.DICTIONARY, tmp_path)["absorption_first_letter"]
    mean = result["eval_result_metrics"]["mean"]
    assert mean["mean_absorption_fraction_score"] == pytest.approx(0.3)
    assert mean["std_dev_absorption_fraction_score"] == pytest.approx(0.2 / 2**0.5)
    assert mean["mean_num_split_features"] == 2
    first = result["eval_result_details"][0]
    assert (first["first_letter"], first["num_full_absorption"], first["num_probe_true_positives"]) == (
        "a",
        2,
        40,
    )


def test_what_cannot_be_exported_is_said(measured: Path, small: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dictionary 'topk'; close names are"):
        exported(measured, "topk", tmp_path / "x")
    bare = tmp_path / "bare"
    small.do_stage(bare)
    with pytest.raises(UserError, match="has no metrics on"):
        exported(bare, small.DICTIONARY, tmp_path / "y")
    assert not (tmp_path / "y").exists()
