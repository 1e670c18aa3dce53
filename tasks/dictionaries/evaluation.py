"""Measure a dictionary on the eval documents, beside PCA and a random dictionary of the same k.

Legend: N tokens, D d_in, K kept per token.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.language_model import LanguageModel
from tasks.activations.shards import ActivationSet
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries import fidelity as fidelity_metrics
from tasks.dictionaries import metrics
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.controls import Pca, fit_pca, fit_random
from tasks.dictionaries.fidelity import (
    ABLATIONS,
    CLEAN,
    Fidelity,
    Replacement,
    measure_fidelity,
    why_unmeasurable,
)
from tasks.dictionaries.metrics import MetricName, ReconstructionSums, SparsitySums, Values
from tasks.dictionaries.sites import SiteActivations
from tasks.dictionaries.stream import ActivationReader, read_valid, sample_rows, sample_tokens

_CODES_PER_BATCH = 2**24

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
    ]
)


@dataclass(frozen=True)
class Controls:
    """The controls at the realised k, and the mean of the train tokens they were fitted on."""

    k: int
    pca: Pca
    random: Dictionary
    mean_D: Tensor


def evaluate(
    dictionary: Dictionary,
    activations: ActivationSet | SiteActivations,
    language_model: LanguageModel | None,
    config: EvaluationConfig,
    *,
    listener: ProgressListener = silent,
) -> pa.Table:
    """All metrics of a dictionary as the columns of ``dictionary_metrics`` without its ids.

    Args:
        dictionary: With its normalisation folded in.
        activations: What it is measured on; metrics read the eval split, controls fit the train split.
        language_model: The model of the activation set; without it CE and KL are null with the reason.
        config: How many tokens and sequences.
        listener: Told after each part.

    Raises:
        UserError: when the widths differ or the set has no valid eval tokens.
    """
    activation_set = SiteActivations.of(activations).inputs
    if dictionary.d_in != activation_set.d_in:
        raise UserError(
            f"the dictionary reads activations of width {dictionary.d_in}, the activation set holds "
            f"{activation_set.d_in}: choose the set of the same hookpoint"
        )
    device = language_model.device if language_model is not None else dictionary.W_dec.device
    dictionary = copy.deepcopy(dictionary).to(device)
    sparsity, own = _measure(dictionary, activation_set, config)
    listener(Progress("evaluation", 1, 3))
    controls = _fit_controls(activation_set, dictionary, sparsity, config)
    pca, random = _measure_controls(controls, activation_set, config)
    own |= metrics.decoder_geometry(dictionary)
    random |= metrics.decoder_geometry(controls.random)
    listener(Progress("evaluation", 2, 3))
    rows = [
        _row(name, value, sparsity.n, _control(controls.k, pca.get(name), random.get(name)))
        for name, value in own.items()
    ]
    rows += _fidelity_rows(dictionary, controls, activation_set, language_model, config)
    listener(Progress("evaluation", 3, 3))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def eval_batches(activations: ActivationReader, n_tokens: int, d_sae: int) -> Iterator[Tensor]:
    """Valid eval tokens (N, D) in float32, from sequences evenly spread over the split."""
    context = activations.context_length
    rows = sample_rows(activations.sequence_rows("eval"), max(n_tokens // context, 1))
    size = max(_CODES_PER_BATCH // (d_sae * context), 1)
    for start in range(0, len(rows), size):
        x_ND = read_valid(activations, rows[start : start + size])
        if len(x_ND):
            yield x_ND.float()


def _measure(
    dictionary: Dictionary, activations: ActivationReader, config: EvaluationConfig
) -> tuple[SparsitySums, Values]:
    reconstruction, sparsity = ReconstructionSums(), SparsitySums(dictionary.d_sae)
    for batch_ND in eval_batches(activations, config.max_tokens, dictionary.d_sae):
        x_ND = batch_ND.to(dictionary.W_dec.device)
        codes = dictionary.encode_sparse(x_ND)
        sparsity.add(*codes)
        reconstruction.add(x_ND, dictionary.decode_sparse(*codes, x_ND))
    if reconstruction.n == 0:
        raise UserError(
            "the activation set has no valid eval tokens: raise eval_share, or cache more documents"
        )
    return sparsity, {**reconstruction.values(), **sparsity.values()}


def _fit_controls(
    activations: ActivationReader, dictionary: Dictionary, sparsity: SparsitySums, config: EvaluationConfig
) -> Controls:
    k = max(round(sparsity.l0), 1)
    train_ND = sample_tokens(activations, "train", config.max_control_tokens)
    random = fit_random(train_ND, k, dictionary.d_sae, config.seed).to(dictionary.W_dec.device)
    return Controls(k, fit_pca(train_ND, k), random, train_ND.mean(dim=0))


def _measure_controls(
    controls: Controls, activations: ActivationReader, config: EvaluationConfig
) -> tuple[Values, Values]:
    """Metrics of PCA (reconstruction alone) and of the random dictionary."""
    reconstruction = ReconstructionSums()
    for x_ND in eval_batches(activations, config.max_tokens, controls.random.d_sae):
        reconstruction.add(x_ND, controls.pca(x_ND))
    _, random = _measure(controls.random, activations, config)
    return reconstruction.values(), random


def _fidelity_rows(
    dictionary: Dictionary,
    controls: Controls,
    activation_set: ActivationSet,
    language_model: LanguageModel | None,
    config: EvaluationConfig,
) -> list[dict[str, Any]]:
    reason: str | None = "no language model was given"
    rows = sample_rows(activation_set.sequence_rows("eval"), config.fidelity_sequences)
    if language_model is not None:
        reason = why_unmeasurable(language_model, activation_set.hookpoint)
    if config.fidelity_sequences == 0:
        reason = "fidelity_sequences is 0"
    if reason is not None or language_model is None:
        return [_fidelity_row(name, None, 0, None, reason) for name in _FIDELITY_NAMES]
    measured = measure_fidelity(
        language_model,
        activation_set.tokens,
        rows,
        activation_set.hookpoint,
        controls.mean_D,
        {
            "dictionary": _reconstruction(dictionary),
            "pca": controls.pca,
            "random": _reconstruction(controls.random),
        },
        seed=config.seed,
    )
    own, pca, random = (_fidelity_values(measured, name) for name in ("dictionary", "pca", "random"))
    return [
        _fidelity_row(name, own[name], measured.n, _control(controls.k, pca[name], random[name]))
        for name in _FIDELITY_NAMES
    ] + [_fidelity_row(MetricName("ce", name), measured.ce(name), measured.n) for name in (CLEAN, *ABLATIONS)]


def _reconstruction(dictionary: Dictionary) -> Replacement:
    return lambda x_ND: dictionary.decode_sparse(*dictionary.encode_sparse(x_ND), x_ND)


_FIDELITY_NAMES = (
    MetricName("ce", "dictionary"),
    MetricName("delta_ce"),
    MetricName("kl"),
    *(MetricName(metric, ablation) for metric in ("ce_recovered", "kl_recovered") for ablation in ABLATIONS),
)


def _fidelity_values(measured: Fidelity, replacement: str) -> Values:
    return {
        MetricName("ce", "dictionary"): measured.ce(replacement),
        MetricName("delta_ce"): measured.delta_ce(replacement),
        MetricName("kl"): measured.kl(replacement),
        **{MetricName("ce_recovered", a): measured.ce_recovered(replacement, a) for a in ABLATIONS},
        **{MetricName("kl_recovered", a): measured.kl_recovered(replacement, a) for a in ABLATIONS},
    }


def _fidelity_row(
    name: MetricName,
    value: float | None,
    n: int,
    control: Mapping[str, float] | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    if value is None and note is None:
        note = "the ablation does no damage, so nothing can be recovered"
    return _row(name, value, n, control, note, version=fidelity_metrics.VERSION)


def _row(
    name: MetricName,
    value: float | None,
    n: int,
    control: Mapping[str, float] | None = None,
    note: str | None = None,
    version: int = metrics.VERSION,
) -> dict[str, Any]:
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
    }


def _control(k: int, pca: float | None, random: float | None) -> dict[str, float] | None:
    values = {"pca": pca, "random": random}
    known = {name: value for name, value in values.items() if value is not None}
    return {"k": k, **known} if known else None
