"""The rows of an evaluation: columns of ``dictionary_metrics`` without its ids."""

import json
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from tasks.common.bootstrap import Interval
from tasks.dictionaries import metrics
from tasks.dictionaries.metrics import MetricName

SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("variant", pa.string()),
        ("split", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("metric_version", pa.int32()),
        ("control", pa.string()),
        ("note", pa.string()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
        ("n_documents", pa.int64()),
    ]
)


def metric_row(
    name: MetricName,
    value: float | None,
    n: int,
    control: Mapping[str, float] | None = None,
    note: str | None = None,
    version: int = metrics.VERSION,
    interval: Interval | None = None,
) -> dict[str, Any]:
    """One row; a missing value gives its reason."""
    if value is None and note is None:
        note = "undefined: the denominator is zero"
    return {
        "metric": name.metric,
        "variant": name.variant,
        "split": "eval",
        "value": value,
        "n": n,
        "metric_version": version,
        "control": json.dumps(control, allow_nan=False) if control else None,
        "note": note,
        "ci_low": interval.low if interval else None,
        "ci_high": interval.high if interval else None,
        "n_documents": interval.n_documents if interval else None,
    }


def headline(rows: pa.Table, wanted: Collection[tuple[str, str]]) -> dict[str, float | None]:
    """The values of some metrics, each a pair of metric and variant, by a name for people."""
    return {
        " ".join(filter(None, (row["metric"], row["variant"]))): row["value"]
        for row in rows.to_pylist()
        if (row["metric"], row["variant"]) in wanted
    }


def control_values(k: int, **values: float | None) -> dict[str, float] | None:
    """The same metric of the controls with ``k``; None if none of them has it."""
    known = {name: value for name, value in values.items() if value is not None}
    return {"k": k, **known} if known else None
