"""CE and KL of a dictionary and its controls as rows, or nulls with the reason.

Legend: N tokens, D d_in, E d_out.
"""

from collections.abc import Mapping
from typing import Any

from tasks.activations.language_model import LanguageModel
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.measures.controls import Controls
from tasks.dictionaries.measures.fidelity import (
    ABLATIONS,
    CLEAN,
    VERSION,
    Fidelity,
    Replacement,
    measure_fidelity,
    why_unmeasurable,
)
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
    """Rows of ``dictionary_metrics``: the written hookpoint is replaced by the output for what is read."""
    reason = _why_not(sites, language_model, config)
    if reason is not None or language_model is None:
        return [_row(name, None, 0, None, reason) for name in _NAMES]
    (written,) = sites.target_names
    measured = measure_fidelity(
        language_model,
        sites.tokens,
        sample_rows(sites.sequence_rows("eval"), config.fidelity_sequences),
        written,
        controls.mean_target,
        {
            "dictionary": _output(dictionary),
            controls.linear_name: controls.linear,
            "random": _output(controls.random),
        },
        reads=None if sites.writes is None else site_names(sites.reads),
        seed=config.seed,
    )
    names = ("dictionary", controls.linear_name, "random")
    own, linear, random = (_values(measured, name) for name in names)
    rows = [
        _row(name, own[name], measured.n, controls.values(linear.get(name), random.get(name)))
        for name in _NAMES
    ]
    return rows + [
        _row(MetricName("ce", name), measured.ce(name), measured.n) for name in (CLEAN, *ABLATIONS)
    ]


def _why_not(
    sites: SiteActivations, language_model: LanguageModel | None, config: EvaluationConfig
) -> str | None:
    if config.fidelity_sequences == 0:
        return "fidelity_sequences is 0"
    if len(sites.targets) > 1:
        return f"{len(sites.targets)} hookpoints are written: no single place to put the output"
    if language_model is None:
        return "no language model was given"
    return why_unmeasurable(language_model, sites.target_names[0])


def _output(dictionary: Dictionary) -> Replacement:
    return lambda x_ND: dictionary.decode_sparse(*dictionary.encode_sparse(x_ND), x_ND)


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
