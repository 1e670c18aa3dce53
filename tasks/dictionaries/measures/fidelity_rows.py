"""CE and KL of a dictionary and its controls as rows, or nulls with the reason.

Legend: N tokens, D d_in, E d_out.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tasks.activations.language_model import LanguageModel
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.coding.cross_layer import CrossLayer
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.measures.controls import Controls
from tasks.dictionaries.measures.fidelity import (
    ABLATIONS,
    CLEAN,
    VERSION,
    Fidelity,
    Replacement,
    ReplacementInContext,
    measure_fidelity,
    why_unmeasurable,
)
from tasks.dictionaries.measures.fidelity_layers import Layers, measure_layers, why_not_in_layers
from tasks.dictionaries.measures.metric_rows import metric_row
from tasks.dictionaries.measures.metrics import MetricName, Values
from tasks.dictionaries.sites import SiteActivations, site_names
from tasks.dictionaries.stream import sample_rows

_NAMES = (
    MetricName("ce", "dictionary"),
    MetricName("delta_ce"),
    MetricName("kl"),
    *(MetricName(metric, ablation) for metric in ("ce_recovered", "kl_recovered") for ablation in ABLATIONS),
)


def fidelity_rows(
    dictionary: Dictionary,
    controls: Controls,
    sites: SiteActivations,
    language_model: LanguageModel | None,
    config: EvaluationConfig,
) -> list[dict[str, Any]]:
    """Rows of ``dictionary_metrics``: what is written is replaced by the output for what is read."""
    reason = _why_not(dictionary, sites, language_model, config)
    if reason is not None or language_model is None:
        return [_row(name, None, 0, None, reason) for name in _NAMES]
    measured = _measured(dictionary, controls, sites, language_model, config)
    names = ("dictionary", controls.linear_name, "random")
    own, linear, random = (_values(measured, name) for name in names)
    several = len(sites.targets) > 1
    note = f"all {len(sites.targets)} written hookpoints replaced in one pass" if several else None
    rows = [
        _row(name, own[name], measured.n, controls.values(linear.get(name), random.get(name)), note)
        for name in _NAMES
    ]
    return rows + [
        _row(MetricName("ce", name), measured.ce(name), measured.n, None, note)
        for name in (CLEAN, *ABLATIONS)
    ]


def _why_not(
    dictionary: Dictionary,
    sites: SiteActivations,
    language_model: LanguageModel | None,
    config: EvaluationConfig,
) -> str | None:
    if config.fidelity_sequences == 0:
        return "fidelity_sequences is 0"
    if len(sites.targets) > 1 and not isinstance(dictionary, CrossLayer):
        return (
            f"{len(sites.targets)} hookpoints are written, each from all that are read: no forward pass has "
            "read all of them before it comes to the first"
        )
    if language_model is None:
        return "no language model was given"
    if len(sites.targets) > 1:
        return why_not_in_layers(language_model, site_names(sites.reads), sites.target_names)
    return why_unmeasurable(language_model, sites.target_names[0])


def _measured(
    dictionary: Dictionary,
    controls: Controls,
    sites: SiteActivations,
    language_model: LanguageModel,
    config: EvaluationConfig,
) -> Fidelity:
    rows = sample_rows(sites.sequence_rows("eval"), config.fidelity_sequences)
    replacements = {
        "dictionary": _output(dictionary),
        controls.linear_name: controls.linear,
        "random": _output(controls.random),
    }
    reads, written, seed = site_names(sites.reads), sites.target_names, config.seed
    if len(written) > 1:
        layers = Layers(reads, written, sites.widths, controls.mean_input, controls.mean_target)
        return measure_layers(language_model, sites.tokens, rows, layers, replacements, seed=seed)
    return measure_fidelity(
        language_model,
        sites.tokens,
        rows,
        written[0],
        controls.mean_target,
        replacements,
        reads=None if sites.writes is None else reads,
        seed=seed,
    )


def _output(dictionary: Dictionary) -> Replacement:
    def output(rows_NW: Tensor) -> Tensor:
        return dictionary.decode_sparse(*dictionary.encode_sparse(rows_NW), rows_NW)

    return ReplacementInContext(dictionary.in_context, output) if dictionary.reads_context else output


def _values(measured: Fidelity, replacement: str) -> Values:
    return {
        MetricName("ce", "dictionary"): measured.ce(replacement),
        MetricName("delta_ce"): measured.delta_ce(replacement),
        MetricName("kl"): measured.kl(replacement),
        **{MetricName("ce_recovered", a): measured.ce_recovered(replacement, a) for a in ABLATIONS},
        **{MetricName("kl_recovered", a): measured.kl_recovered(replacement, a) for a in ABLATIONS},
    }


def _row(
    name: MetricName,
    value: float | None,
    n: int,
    control: Mapping[str, float] | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    if value is None and note is None:
        note = "the ablation does no damage, so nothing can be recovered"
    return metric_row(name, value, n, control, note, version=VERSION)
