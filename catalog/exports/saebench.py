"""The stored metrics of a dictionary in SAEBench's JSON form, one file per kind of evaluation.

SAEBench (arXiv 2503.09532) keeps ``<evaluation>/<sae>_eval_results.json``. Its categories and names are used
for the values that mean the same here; a value it asks for that is not in the catalogue is null, and
everything the catalogue knows, with versions and controls, stands under ``eval_result_unstructured``.
``explained_variance`` is 1 - FVU pooled over the evaluation set, which SAEBench's own is not for activations
with a mean; ``*_with_ablation`` is zero ablation, as there.
"""

import json
import math
import statistics
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.durable import make_folder, replace_file, to_json
from catalog.errors import UserError
from catalog.ids import slug
from catalog.queries import dictionary_geometry, dictionary_metrics, dictionary_record
from catalog.resolve import resolve_dictionary
from catalog.version import code_version

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CORE, PROBING, ABSORPTION = "core", "sparse_probing", "absorption_first_letter"
_PROBE_SIZES = (1, 2, 5, 10, 20, 50, 100)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
Row = Mapping[str, Any]


class _Values:
    """Metric values by name; None where there is no row."""

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


def write_saebench(root: Path, connection: "DuckDBPyConnection", dictionary: str, folder: Path) -> list[Path]:
    """Write one file per kind of evaluation that the catalogue has of a dictionary; returns their paths.

    Args:
        root: The catalogue; its ``cfg.json`` of the dictionary is copied where it is there.
        connection: To the catalogue.
        dictionary: Its id or alias.
        folder: Made if missing.

    Raises:
        UserError: for an unknown dictionary, or one that was never measured.
    """
    dictionary_id = resolve_dictionary(connection, dictionary)
    record = dictionary_record(connection, dictionary_id=dictionary_id).to_pylist()[0]
    place = {"dictionary_id": dictionary_id, "activation_set_id": record["activation_set_id"]}
    rows = dictionary_metrics(connection, **place).to_pylist()
    if not rows:
        raise UserError(
            f"dictionary {dictionary_id!r} has no metrics on {record['activation_set_id']!r}: "
            "run its pipeline with --stage evaluate_dictionary first"
        )
    geometry = dictionary_geometry(connection, **place).to_pylist()
    config_file = root / record["weights_uri"] / "cfg.json"
    sae_config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else None
    written = []
    for result in saebench_results(record, rows, geometry, sae_config):
        path = folder / result["eval_type_id"] / f"{slug(dictionary_id)}_eval_results.json"
        make_folder(path.parent)
        replace_file(path, to_json(result))
        written.append(path)
    return written


def saebench_results(
    record: Row, rows: Sequence[Row], geometry: Sequence[Row], sae_config: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The results as JSON values: ``core`` always, the others where they were measured.

    Args:
        record: Row of ``dictionaries``.
        rows: Rows of ``dictionary_metrics`` on one activation set, with ``measured_at``.
        geometry: Density and geometry of every feature; empty where none was mined.
        sae_config: The dictionary's ``cfg.json``, in SAELens' form.
    """
    values = _Values([row for row in rows if row["split"] == "eval"])
    parts: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
        CORE: (_core(values, geometry), _core_details(geometry))
    }
    if values.variants("sparse_probe_accuracy"):
        parts[PROBING] = _probing(values)
    if values("absorption_fraction") is not None:
        parts[ABSORPTION] = _absorption(values)
    return [
        _envelope(kind, metrics, details, record, rows, sae_config)
        for kind, (metrics, details) in parts.items()
    ]


def _envelope(
    kind: str,
    metrics: dict[str, Any],
    details: list[dict[str, Any]],
    record: Row,
    rows: Sequence[Row],
    sae_config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    dictionary_id = str(record["dictionary_id"])
    times = [row["measured_at"] for row in rows if row["measured_at"] is not None]
    measured_at = max(times, default=record["created_at"])
    stored = ("metric", "variant", "split", "value", "n", "metric_version", "control", "note")
    return {
        "eval_type_id": kind,
        "eval_config": {
            "model_name": record["reads"][0]["model_id"],
            "activation_set_id": record["activation_set_id"],
        },
        "eval_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{dictionary_id} {kind}")),
        "datetime_epoch_millis": round(measured_at.timestamp() * 1000),
        "eval_result_metrics": metrics,
        "eval_result_details": details,
        "sae_bench_commit_hash": f"featlas {code_version()}",
        "sae_lens_id": dictionary_id,
        "sae_lens_release_id": None,
        "sae_lens_version": None,
        "sae_cfg_dict": dict(sae_config) if sae_config is not None else None,
        "eval_result_unstructured": {"metrics": [{name: row[name] for name in stored} for row in rows]},
    }


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
            "mse": values("mse"),
            "cossim": values("cosine"),
        },
        "shrinkage": {
            "l2_norm_in": None,
            "l2_norm_out": None,
            "l2_ratio": values("l2_ratio"),
            "relative_reconstruction_bias": values("shrinkage"),
        },
        "sparsity": {"l0": values("l0"), "l1": None},
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
