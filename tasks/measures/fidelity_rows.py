"""CE and KL of a dictionary and its controls as rows, or nulls with the reason.

Legend: N tokens, D d_in, E d_out.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tasks.activations.models.language_model import LanguageModel
from tasks.common.bootstrap import Interval, ratio_interval
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.families.cross_layer_family import CrossLayer
from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.dictionaries.hookpoint_activations import HookpointActivations, hookpoint_names
from tasks.dictionaries.metrics import Intervals, MetricName, Values
from tasks.dictionaries.stream import sample_rows
from tasks.measures.controls import Controls
from tasks.measures.fidelity import (
    ABLATIONS,
    VERSION,
    Replacement,
    ReplacementInContext,
    measure_fidelity,
    why_unmeasurable,
)
from tasks.measures.fidelity_hookpoints import Spot, measure_hookpoint
from tasks.measures.fidelity_layers import Layers, measure_layers, why_not_in_layers
from tasks.measures.fidelity_sums import CLEAN, Fidelity
from tasks.measures.metric_rows import metric_row

_NAMES = (
    MetricName("ce", "dictionary"),
    MetricName("delta_ce"),
    MetricName("kl"),
    *(MetricName(metric, ablation) for metric in ("ce_recovered", "kl_recovered") for ablation in ABLATIONS),
)


def fidelity_rows(
    dictionary: Dictionary,
    controls: Controls,
    activations: HookpointActivations,
    language_models: Sequence[LanguageModel],
    config: EvaluationConfig,
    listener: ProgressListener = silent,
) -> list[dict[str, Any]]:
    """Rows of ``dictionary_metrics``: the output replaces the written hookpoint.

    For a crosscoder one hookpoint at a time; the variants then end with its name, and those without are null.
    """
    if isinstance(dictionary, Crosscoding):
        return _rows_of_crosscoder(dictionary, controls, activations, language_models, config, listener)
    reason = _why_not(dictionary, activations, language_models, config)
    if reason is not None:
        return [_row(name, None, 0, None, reason) for name in _NAMES]
    measured = _measured(dictionary, controls, activations, language_models[0], config, listener)
    several = len(activations.targets) > 1
    note = f"all {len(activations.targets)} written hookpoints replaced in one pass" if several else None
    return _rows_of(measured, controls, note)


def _rows_of(measured: Fidelity, controls: Controls, note: str | None, at: str = "") -> list[dict[str, Any]]:
    """All rows of one measurement; ``at`` is the hookpoint if it is one of several."""
    names = ("dictionary", controls.linear_name, "random")
    own, linear, random = (_values(measured, name) for name in names)
    intervals = fidelity_intervals(measured, "dictionary")
    rows = [
        _row(
            _at(name, at),
            own[name],
            measured.n,
            controls.values(linear.get(name), random.get(name)),
            note,
            intervals[name],
        )
        for name in _NAMES
    ]
    n_G = measured.tokens_by_document()
    return rows + [
        _row(
            _at(MetricName("ce", name), at),
            measured.ce(name),
            measured.n,
            None,
            note,
            ratio_interval(measured.by_document("ce", name), n_G),
        )
        for name in (CLEAN, *ABLATIONS)
    ]


def fidelity_intervals(measured: Fidelity, name: str) -> Intervals:
    """Intervals of all values of a replacement; the baselines are resampled with it."""
    n_G = measured.tokens_by_document()
    ce, kl = (
        {key: measured.by_document(measure, key) for key in (name, CLEAN, *ABLATIONS)}
        for measure in ("ce", "kl")
    )
    recovered = {
        MetricName(f"{measure}_recovered", ablation): ratio_interval(
            sums[ablation] - sums[name], sums[ablation] - sums[CLEAN], weight_G=n_G
        )
        for measure, sums in (("ce", ce), ("kl", kl))
        for ablation in ABLATIONS
    }
    return {
        MetricName("ce", "dictionary"): ratio_interval(ce[name], n_G),
        MetricName("delta_ce"): ratio_interval(ce[name] - ce[CLEAN], n_G),
        MetricName("kl"): ratio_interval(kl[name], n_G),
        **recovered,
    }


def _at(name: MetricName, hookpoint: str) -> MetricName:
    """The metric with its hookpoint: ``blocks.1.resid_post`` or ``mean_ablation at blocks.1.resid_post``."""
    return name._replace(variant=" at ".join(filter(None, (name.variant, hookpoint))))


def _rows_of_crosscoder(
    dictionary: Dictionary,
    controls: Controls,
    activations: HookpointActivations,
    language_models: Sequence[LanguageModel],
    config: EvaluationConfig,
    listener: ProgressListener,
) -> list[dict[str, Any]]:
    by_id = {model.spec.model_id: model for model in language_models}
    model_ids = [str(getattr(reader, "meta", {}).get("model_id", "")) for reader in activations.targets]
    reason = None
    if config.fidelity_sequences == 0:
        reason = "fidelity_sequences is 0"
    elif not by_id.keys() >= set(model_ids):
        reason = "no language model was given"
    else:
        hookpoints = [str(getattr(reader, "hookpoint", "")) for reader in activations.targets]
        spots = [Spot(by_id[model], name) for model, name in zip(model_ids, hookpoints, strict=True)]
        reasons = (why_unmeasurable(*spot) for spot in spots)
        reason = next((found for found in reasons if found is not None), None)
    n_written = len(activations.targets)
    told = reason or f"{n_written} hookpoints are written, one is replaced at a time: see their rows"
    rows = [_row(name, None, 0, None, told) for name in _NAMES]
    if reason is not None:
        return rows
    means = torch.split(controls.mean_target, list(activations.widths.writes))
    chosen = sample_rows(activations.sequence_rows("eval"), config.fidelity_sequences)
    for number, name in enumerate(activations.target_names):
        measured = _shared(
            partial(
                measure_hookpoint,
                spots,
                number,
                activations.tokens,
                chosen,
                means,
                seed=config.seed,
                listener=listener,
            ),
            dictionary,
            controls,
            name,
        )
        rows += _rows_of(measured, controls, None, at=name)
    return rows


def _why_not(
    dictionary: Dictionary,
    activations: HookpointActivations,
    language_models: Sequence[LanguageModel],
    config: EvaluationConfig,
) -> str | None:
    if config.fidelity_sequences == 0:
        return "fidelity_sequences is 0"
    if len(activations.targets) > 1 and not isinstance(dictionary, CrossLayer):
        return f"{len(activations.targets)} hookpoints are written: no single place to put the output"
    if not language_models:
        return "no language model was given"
    if len(activations.targets) > 1:
        return why_not_in_layers(
            language_models[0], hookpoint_names(activations.reads), activations.target_names
        )
    return why_unmeasurable(language_models[0], activations.target_names[0])


def _measured(
    dictionary: Dictionary,
    controls: Controls,
    activations: HookpointActivations,
    language_model: LanguageModel,
    config: EvaluationConfig,
    listener: ProgressListener,
) -> Fidelity:
    rows = sample_rows(activations.sequence_rows("eval"), config.fidelity_sequences)
    reads, written, seed = hookpoint_names(activations.reads), activations.target_names, config.seed
    if len(written) > 1:
        layers = Layers(reads, written, activations.widths, controls.mean_input, controls.mean_target)
        measure = partial(
            measure_layers, language_model, activations.tokens, rows, layers, seed=seed, listener=listener
        )
        return _shared(measure, dictionary, controls)
    measure = partial(
        measure_fidelity,
        language_model,
        activations.tokens,
        rows,
        written[0],
        controls.mean_target,
        reads=None if activations.writes is None else reads,
        seed=seed,
        clean=controls.clean,
        listener=listener,
    )
    return _shared(measure, dictionary, controls)


def _shared(
    measure: Callable[..., Fidelity], dictionary: Dictionary, controls: Controls, at: str = ""
) -> Fidelity:
    """Run the dictionary, and the controls and the ablations unless they ran for another one."""
    own = {"dictionary": _output(dictionary)}
    known = controls.fidelity.get(at)
    if known is not None:
        return measure(own, ablate=False).with_controls(known)
    others = {controls.linear_name: controls.linear, "random": _output(controls.random)}
    ablated = controls.ablated.get(at)
    measured = measure({**own, **others}, ablate=ablated is None)
    if ablated is None:
        controls.ablated[at] = measured.only(ABLATIONS)
    else:
        measured = measured.with_controls(ablated)
    controls.fidelity[at] = measured.without("dictionary")
    return measured


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
    interval: Interval | None = None,
) -> dict[str, Any]:
    if value is None and note is None:
        note = "the ablation does no damage, so nothing can be recovered"
    return metric_row(name, value, n, control, note, VERSION, interval if value is not None else None)
