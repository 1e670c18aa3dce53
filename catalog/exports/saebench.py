"""The stored metrics of a dictionary in SAEBench's JSON format, one file per kind of evaluation.

SAEBench (arXiv 2503.09532) writes ``<evaluation>/<sae>_eval_results.json``. This export uses its categories
and names for values with the same meaning. SAEBench's classes accept no null for a number: a value that the
catalogue does not have becomes -1, as SAEBench itself writes what it could not measure, and
``eval_result_unstructured.not_measured`` names it. The same object holds everything the catalogue knows,
with versions and controls. The classes of sae-bench 0.6.0 accept all three kinds of file.
"""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.durable import make_folder, replace_file, to_json
from catalog.errors import UserError
from catalog.exports.saebench_metrics import Row, evaluations
from catalog.ids import slug
from catalog.queries import dictionary_geometry, dictionary_metrics, dictionary_record
from catalog.resolve import resolve_dictionary
from catalog.untrusted import blob_folder
from catalog.version import code_version

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_NOT_MEASURED = -1
_MAY_BE_NULL = re.compile(r"(sae|llm_top_\d+)_\w*test_accuracy")
"""The only number fields that may be null in SAEBench."""


def write_saebench(root: Path, connection: "DuckDBPyConnection", dictionary: str, folder: Path) -> list[Path]:
    """Write one file per kind of evaluation of a dictionary in the catalogue; return their paths.

    Args:
        root: The catalogue; the dictionary's ``cfg.json`` is copied from it if it exists.
        connection: To the catalogue.
        dictionary: Its id or alias.
        folder: Created if missing.

    Raises:
        UserError: for an unknown dictionary, or one that was never measured.
    """
    dictionary_id = resolve_dictionary(connection, dictionary)
    record = dictionary_record(dictionary_id=dictionary_id).read(connection).to_pylist()[0]
    activation_set = record["activation_set_id"]
    metrics = dictionary_metrics(dictionary_ids=[dictionary_id], every_row=True)
    rows = metrics.read(connection).to_pylist()
    if not rows:
        raise UserError(
            f"dictionary {dictionary_id!r} has no metrics on {activation_set!r}: "
            "run its pipeline with --stage evaluate_dictionary first"
        )
    of_features = dictionary_geometry(dictionary_id=dictionary_id, activation_set_id=activation_set)
    geometry = of_features.read(connection).to_pylist()
    config_file = blob_folder(root, record["weights_uri"], "the weights folder") / "cfg.json"
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
    """The results as JSON values: ``core`` always, the others if they were measured.

    Args:
        record: Row of ``dictionaries``.
        rows: Rows of ``dictionary_metrics`` on one activation set, with ``measured_at``.
        geometry: Density and geometry of every feature; empty if none was mined.
        sae_config: The dictionary's ``cfg.json``, in SAELens' form.
    """
    return [
        _envelope(kind, metrics, details, record, rows, sae_config)
        for kind, (metrics, details) in evaluations(rows, geometry).items()
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
    missing: list[str] = []
    metrics = {name: _numbers(part, f"{name}.", missing) for name, part in metrics.items()}
    details = [_numbers(detail, "details.", missing) for detail in details]
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
        "eval_result_unstructured": {
            "metrics": [{name: row[name] for name in stored} for row in rows],
            "not_measured": sorted(set(missing)),
        },
    }


def _numbers(values: Mapping[str, Any], prefix: str, missing: list[str]) -> dict[str, Any]:
    """The same with a number in place of each null that SAEBench would refuse; records their names."""
    refused = [name for name, value in values.items() if value is None and not _MAY_BE_NULL.fullmatch(name)]
    missing += [prefix + name for name in refused]
    return {**values, **dict.fromkeys(refused, _NOT_MEASURED)}
