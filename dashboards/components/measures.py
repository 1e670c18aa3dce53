"""The measures of dictionaries: names, definitions, units, and the controls shown with each value."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dashboards import figures
from dashboards.components import definitions

Row = Mapping[str, Any]


class Measure(NamedTuple):
    """A metric as it is shown; ``variants`` lists the variants to show, ``None`` shows all."""

    metric: str
    name: str
    help: str
    shown: Callable[[float | None], str] = figures.significant
    variants: tuple[str, ...] | None = ("",)


def _nats(value: float | None) -> str:
    return figures.MISSING if value is None else f"{figures.significant(value)} nats"


_LETTERS = "First-letter task, mean over letters."
CORE = (
    Measure("fvu", "FVU", definitions.FVU_ALONE, variants=None),
    Measure("skip_share", "explained by the skip path", definitions.SKIP_SHARE, figures.percent),
    Measure("ce_recovered", "CE recovered", definitions.CE_RECOVERED, variants=("mean_ablation",)),
    Measure("delta_ce", "CE added", definitions.DELTA_CE, _nats),
    Measure("kl", "KL", definitions.KL, _nats),
    Measure("l0", "L0", definitions.L0),
    Measure("unseen_share", "silent on eval tokens", definitions.SILENT_ON_EVAL, figures.percent),
    Measure("dense_share", "dense", definitions.DENSE_SHARE, figures.percent),
    Measure("shrinkage", "shrinkage", definitions.SHRINKAGE),
    Measure("encoder_decoder_cosine", "encoder · decoder", definitions.ENCODER_COSINE, variants=("mean",)),
    Measure("nearest_decoder_cosine", "nearest direction", definitions.NEAREST_COSINE, variants=("mean",)),
    Measure("relative_norm", "relative norm", definitions.RELATIVE_NORM, variants=None),
    Measure("first_last_cosine", "first · last hookpoint", definitions.FIRST_LAST_COSINE, variants=None),
)
SUITES = (
    Measure(
        "sparse_probe_accuracy", "probe accuracy", definitions.PROBE_ACCURACY, figures.percent, variants=None
    ),
    Measure("label_separation", "classes apart", definitions.SEPARATION, variants=None),
    Measure(
        "accuracy_kept_area", "accuracy kept, area", definitions.KEPT_AREA, figures.percent, variants=None
    ),
    Measure(
        "accuracy_kept", "accuracy kept by labels", definitions.ACCURACY_KEPT, figures.percent, variants=None
    ),
    Measure("first_letter_probe_f1", "letters in the activations, F1", _LETTERS),
    Measure("first_letter_sparse_f1", "letters by few features, F1", _LETTERS, variants=None),
    Measure("absorption_fraction", "absorbed", definitions.ABSORPTION, figures.percent),
    Measure("absorption_full", "absorbed wholly", definitions.ABSORPTION_FULL, figures.percent),
    Measure("split_latents", "features per letter", definitions.SPLIT),
    Measure("planted_mmcs", "planted features, cosine", definitions.PLANTED_MMCS),
    Measure(
        "planted_recall", "planted features found", definitions.PLANTED_RECALL, figures.percent, variants=None
    ),
    Measure(
        "planted_precision", "features that were planted", definitions.PLANTED_PRECISION, figures.percent
    ),
    Measure("planted_absorption", "planted parents silent", definitions.PLANTED_ABSORPTION, figures.percent),
    Measure("seed_mmcs", "found by another seed, cosine", definitions.SEED_MMCS),
    Measure("seed_share", "found by another seed", definitions.SEED_SHARE, figures.percent, variants=None),
    Measure("seed_shared", "the same in another seed", definitions.SEED_SHARED, figures.percent),
    Measure(
        "decodable_earlier", "decodable from an earlier layer", definitions.DECODABLE_EARLIER, figures.percent
    ),
    Measure("decodable_share", "decodable from", definitions.DECODABLE_SHARE, figures.percent, variants=None),
    Measure("mse_seqmean", "squared error, by sequence", definitions.MSE_SEQMEAN),
    Measure("mse_special", "squared error, special tokens", definitions.MSE_SPECIAL),
)
SPECTRUM, CERTIFICATE = "density_spectrum", "import_"
_LEFT_OUT = {"sse_per_token", "mse", "cosine", "l2_ratio", "density", "decoder_norm", "ce", "kl_recovered"}
_KNOWN = {measure.metric for measure in (*CORE, *SUITES)} | _LEFT_OUT | {SPECTRUM}
WITHOUT_MASSIVE = "without_massive"
_VARIANTS = {
    WITHOUT_MASSIVE: "without massive tokens",
    "latents_zero": "skip path only",
    "p05": "5 %",
    "p95": "95 %",
}
_CONTROLS = {
    "pca": "PCA",
    "linear": "linear map",
    "random": "random dictionary",
    "raw": "all dimensions",
    "raw_k": "as many dimensions",
    "shuffled": "shuffled labels",
    "shuffled_words": "letters shuffled among words",
    "random_latents": "as many random features",
    "all_latents": "best of all features",
    "shuffled_firing": "shuffled firing",
    "without_child": "where no child is active",
}


_FLOORS = {"frozen_decoder": "frozen decoder", "random_model": "random weights"}
"""The same metric of other rows of the catalogue: see the query ``dictionary_metrics``."""
_CONTROLS |= _FLOORS
_RECOVERED = {"ce_recovered", "kl_recovered"}
_SAME_ON_RANDOM = {"encoder_decoder_cosine", "nearest_decoder_cosine", "relative_norm", "first_last_cosine"}
"""They read the dictionary's weights alone."""
_NO_RANDOM_MODEL = _RECOVERED | _SAME_ON_RANDOM | {"delta_ce"}
"""Metrics that say nothing on a model with random weights."""
RANDOM_WEIGHTS = "no measure on random weights: the model predicts nothing that could be recovered"


class Line(NamedTuple):
    """One value as it is shown."""

    key: tuple[str, str]
    name: str
    help: str
    value: str
    beside: str
    n: int


def lines(rows: Sequence[Row], measures: Sequence[Measure]) -> Iterator[Line]:
    """The values of some measures in their order; totals before variants."""
    for measure in measures:
        own = sorted((row for row in rows if row["metric"] == measure.metric), key=_natural)
        for row in own:
            wanted = measure.variants is None or row["variant"] in (*measure.variants, WITHOUT_MASSIVE)
            if wanted:
                yield _line(row, measure)


def _natural(row: Row) -> list[tuple[bool, int, str]]:
    """Variants in the order of people: k2 before k20."""
    parts = re.split(r"(\d+)", row["variant"])
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def further(rows: Sequence[Row]) -> Iterator[Line]:
    """Values of metrics without a description on this page, under their own names."""
    for row in rows:
        if row["metric"] not in _KNOWN and not row["metric"].startswith(CERTIFICATE):
            yield _line(row, Measure(row["metric"], row["metric"].replace("_", " "), "", variants=None))


def together(found: Iterable[Line]) -> list[Line]:
    """Lines in which missing values with the same reason share one line."""
    shown: list[Line] = []
    for line in found:
        last = shown[-1] if shown else None
        if last and line.value == last.value == figures.MISSING and line.beside == last.beside:
            shown[-1] = last._replace(name=f"{last.name}; {line.name}")
        else:
            shown.append(line)
    return shown


def _line(row: Row, measure: Measure) -> Line:
    whole = measure.variants is not None and row["variant"] != WITHOUT_MASSIVE
    variant = "" if whole else row["variant"]
    is_hookpoint = "." in variant and variant.startswith("blocks")
    words = variant if is_hookpoint else _VARIANTS.get(variant, variant.replace("_", " "))
    name = f"{measure.name}, {words}" if words else measure.name
    key = (row["metric"], row["variant"])
    if row.get("is_random_model") and row["metric"] in _RECOVERED:
        return Line(key, name, measure.help, figures.MISSING, RANDOM_WEIGHTS, row["n"])
    beside = (row["note"] or "") if row["value"] is None else beside_value(row, measure)
    return Line(key, name, measure.help, _with_interval(row, measure), beside, row["n"])


def _with_interval(row: Row, measure: Measure) -> str:
    """The value with its interval over documents, if one was measured."""
    low, high = row.get("ci_low"), row.get("ci_high")
    shown = measure.shown(row["value"])
    return (
        shown
        if low is None or high is None
        else f"{shown} ({figures.between(measure.shown(low), measure.shown(high))})"
    )


def beside_value(row: Row, measure: Measure) -> str:
    """The same metric of the controls and of the floors, as text."""
    controls = json.loads(row["control"]) if row["control"] else {}
    floors = set(_FLOORS) - ({"random_model"} if row["metric"] in _NO_RANDOM_MODEL else set())
    controls |= {name: row[name] for name in sorted(floors) if row.get(name) is not None}
    return ", ".join(
        f"{_CONTROLS.get(name, name.replace('_', ' '))} {measure.shown(value)}"
        for name, value in controls.items()
        if name != "k"
    )
