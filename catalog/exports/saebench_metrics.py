"""Stored metrics by SAEBench's evaluations, categories and names; null if the catalogue has no value.

``explained_variance`` is 1 - FVU pooled over the evaluation set; SAEBench's own value differs for
activations with a mean. ``l1`` covers the tokens that were mined. ``*_with_ablation`` is zero ablation, as in
SAEBench.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

CORE, PROBING, ABSORPTION = "core", "sparse_probing", "absorption_first_letter"
_PROBE_SIZES = (1, 2, 5, 10, 20, 50, 100)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
Row = Mapping[str, Any]
Evaluation = tuple[dict[str, Any], list[dict[str, Any]]]
"""Metrics by category, and details by feature, label column or letter."""


def evaluations(rows: Sequence[Row], geometry: Sequence[Row]) -> dict[str, Evaluation]:
    """The evaluations by SAEBench's ids: ``core`` always, the others if they were measured.

    Args:
        rows: Rows of ``dictionary_metrics`` on one activation set.
        geometry: Density, mean activation and geometry of every feature; empty if none was mined.
    """
    values = _Values([row for row in rows if row["split"] == "eval"])
    parts: dict[str, Evaluation] = {CORE: (_core(values, geometry), _core_details(geometry))}
    if values.variants("sparse_probe_accuracy"):
        parts[PROBING] = _probing(values)
    if values("absorption_fraction") is not None:
        parts[ABSORPTION] = _absorption(values)
    return parts


class _Values:
    """Metric values by name; None if there is no row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = {(row["metric"], row["variant"]): row for row in rows}

    def __call__(self, metric: str, variant: str = "") -> float | None:
        row = self.rows.get((metric, variant))
        return None if row is None or row["value"] is None else float(row["value"])

    def n(self, metric: str, variant: str = "") -> int | None:
        row = self.rows.get((metric, variant))
        return None if row is None else int(row["n"])

    def control(self, metric: str, variant: str, name: str) -> float | None:
        row = self.rows.get((metric, variant))
        controls = json.loads(row["control"]) if row is not None and row["control"] else {}
        return controls.get(name)

    def variants(self, metric: str) -> list[str]:
        return sorted(variant for name, variant in self.rows if name == metric)


def _core(values: _Values, geometry: Sequence[Row]) -> dict[str, Any]:
    fvu, kl, kl_score = values("fvu"), values("kl"), values("kl_recovered", "zero_ablation")
    unseen, n = values("unseen_share"), values.n("fvu")
    return {
        "model_behavior_preservation": {
            "kl_div_score": kl_score,
            "kl_div_with_ablation": _ablated(kl, kl_score),
            "kl_div_with_sae": kl,
        },
        "model_performance_preservation": {
            "ce_loss_score": values("ce_recovered", "zero_ablation"),
            "ce_loss_with_ablation": values("ce", "zero_ablation"),
            "ce_loss_with_sae": values("ce", "dictionary"),
            "ce_loss_without_sae": values("ce", "clean"),
        },
        "reconstruction_quality": {
            "explained_variance": None if fvu is None else 1 - fvu,
            "explained_variance_legacy": None,
            "mse": values("mse"),
            "cossim": values("cosine"),
        },
        "shrinkage": {
            "l2_norm_in": None,
            "l2_norm_out": None,
            "l2_ratio": values("l2_ratio"),
            "relative_reconstruction_bias": values("shrinkage"),
        },
        "sparsity": {"l0": values("l0"), "l1": _l1(geometry)},
        "token_stats": {
            "total_tokens_eval_reconstruction": n,
            "total_tokens_eval_sparsity_variance": values.n("l0"),
        },
        "misc_metrics": {
            **_frequencies([row["density"] for row in geometry]),
            "average_max_encoder_cosine_sim": None,
            "average_max_decoder_cosine_sim": values("nearest_decoder_cosine", "mean"),
            "frac_alive": None if unseen is None else 1 - unseen,
        },
    }


def _ablated(kl: float | None, score: float | None) -> float | None:
    """KL of the ablation, from score = (ablated - own) / ablated."""
    return None if kl is None or score is None or score == 1 else kl / (1 - score)


def _l1(geometry: Sequence[Row]) -> float | None:
    """Mean over tokens of the sum of all activations, if they were mined."""
    if not geometry:
        return None
    return math.fsum(row["density"] * (row["mean_activation"] or 0.0) for row in geometry)


def _frequencies(densities: Sequence[float]) -> dict[str, float | None]:
    """Share of features above a density, and their share of all activity."""
    total = math.fsum(densities)
    result: dict[str, float | None] = {}
    for percent in (1, 10):
        dense = [density for density in densities if density > percent / 100]
        result[f"freq_over_{percent}_percent"] = len(dense) / len(densities) if densities else None
        result[f"normalized_freq_over_{percent}_percent"] = math.fsum(dense) / total if total else None
    return result


def _core_details(geometry: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "index": row["feature_index"],
            "feature_density": row["density"],
            "consistent_activation_heuristic": None,
            "encoder_bias": None,
            "encoder_norm": None,
            "encoder_decoder_cosine_sim": row["encoder_decoder_cosine"],
            "max_decoder_cosine_sim": row["nearest_cosine"],
            "max_encoder_cosine_sim": None,
        }
        for row in geometry
    ]


def _probing(values: _Values) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """By label column, and the mean over columns; the probe on raw dimensions is SAEBench's ``llm``."""
    labels = sorted({variant.rpartition(":k")[0] for variant in values.variants("sparse_probe_accuracy")})
    probes = {label: _probes(values, label) for label in labels}
    details = [{"dataset_name": label, **probe} for label, probe in probes.items()]
    mean = {name: _mean([probe[name] for probe in probes.values()]) for name in next(iter(probes.values()))}
    metrics = {
        side: {name: value for name, value in mean.items() if name.startswith(side)}
        for side in ("llm", "sae")
    }
    return metrics, details


def _probes(values: _Values, label: str) -> dict[str, float | None]:
    metric = "sparse_probe_accuracy"
    sizes = [
        int(variant.rpartition(":k")[2])
        for variant in values.variants(metric)
        if variant.startswith(f"{label}:k")
    ]
    result = {
        "llm_test_accuracy": values.control(metric, f"{label}:k{sizes[0]}", "raw"),
        "sae_test_accuracy": None,
    }
    for k in sorted({*_PROBE_SIZES, *sizes}):
        variant = f"{label}:k{k}"
        result[f"llm_top_{k}_test_accuracy"] = values.control(metric, variant, "raw_k")
        result[f"sae_top_{k}_test_accuracy"] = values(metric, variant)
    return result


def _absorption(values: _Values) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    letters = [variant for variant in values.variants("absorption_fraction") if variant in _LETTERS]
    details = [_letter(values, letter) for letter in letters]
    columns = {
        "absorption_fraction_score": "mean_absorption_fraction",
        "full_absorption_score": "full_absorption_rate",
        "num_split_features": "num_split_features",
    }
    metrics: dict[str, float | None] = {}
    for name, column in columns.items():
        found = [detail[column] for detail in details if detail[column] is not None]
        metrics[f"mean_{name}"] = _mean(found)
        metrics[f"std_dev_{name}"] = statistics.stdev(found) if len(found) > 1 else None
    return {"mean": metrics}, details


def _letter(values: _Values, letter: str) -> dict[str, Any]:
    n, rate = values.n("absorption_full", letter) or 0, values("absorption_full", letter)
    split = values("split_latents", letter)
    return {
        "first_letter": letter,
        "mean_absorption_fraction": values("absorption_fraction", letter),
        "full_absorption_rate": rate,
        "num_full_absorption": round((rate or 0) * n),
        "num_probe_true_positives": n,
        "num_split_features": None if split is None else round(split),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
