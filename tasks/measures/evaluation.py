"""Measure a dictionary on the eval documents, with controls of the same k.

Legend: N tokens, W width of all hookpoints together, D d_in, E d_out, K kept per token.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.models.language_model import LanguageModel
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries import metrics
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.metrics import (
    WITHOUT_MASSIVE,
    Intervals,
    MetricName,
    ReconstructionSums,
    SkipSums,
    SparsitySums,
    Values,
)
from tasks.dictionaries.stream import ActivationReader, sample_tokens
from tasks.measures.controls import Controls, fit_controls
from tasks.measures.eval_tokens import EvalTokens, eval_batches, eval_tokens, has_massive
from tasks.measures.fidelity_rows import fidelity_rows
from tasks.measures.metric_rows import SCHEMA, metric_row
from tasks.measures.shared_controls import SharedControls

HEADLINE = [(metric, variant) for metric in ("fvu", "l0") for variant in ("", "without_massive")]
"""Metric and variant of the values that a run shows of every dictionary."""

__all__ = ["SCHEMA", "eval_batches", "evaluate"]


def evaluate(
    dictionary: Dictionary,
    activations: ActivationReader | HookpointActivations,
    language_model: LanguageModel | None,
    config: EvaluationConfig,
    *,
    second_model: LanguageModel | None = None,
    shared: SharedControls | None = None,
    listener: ProgressListener = silent,
) -> pa.Table:
    """All metrics of a dictionary as the columns of ``dictionary_metrics`` without its ids.

    Args:
        dictionary: The dictionary with folded normalisation.
        activations: The data; metrics read the eval split, controls fit the train split.
        language_model: The model of the activations; without it CE and KL are null with the reason.
        config: Numbers of tokens and sequences.
        second_model: For a crosscoder of two models the other one.
        shared: Controls of dictionaries measured before; those of the same hookpoint, k and width are reused.
        listener: Called after each batch of every part.

    Raises:
        UserError: when the widths differ or the set has no valid eval tokens.
    """
    activations = HookpointActivations.of(activations)
    if dictionary.widths != activations.widths:
        raise UserError(
            f"the dictionary reads activations of width {dictionary.d_in} and writes {dictionary.d_out}; "
            f"these have {activations.widths.d_in} and {activations.widths.d_out}: choose the sets of its "
            "own hookpoints"
        )
    device = language_model.device if language_model is not None else dictionary.W_dec.device
    dictionary = copy.deepcopy(dictionary).to(device)
    own = _measure(
        dictionary, activations.as_read_by(dictionary), config, "sequences reconstructed", listener
    )
    controls = (shared or SharedControls()).of(
        activations,
        dictionary,
        own.k,
        config,
        lambda: _controls(activations, dictionary, own.k, config, listener),
    )
    own.values |= metrics.decoder_geometry(dictionary) | _of_hookpoints(dictionary)
    rows = own.rows(controls)
    models = [model for model in (language_model, second_model) if model is not None]
    rows += fidelity_rows(dictionary, controls, activations, models, config, listener)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@dataclass
class _TargetSums:
    """Reconstruction of all targets together and, if there are several, of each."""

    activations: HookpointActivations

    def __post_init__(self) -> None:
        self.together = ReconstructionSums()
        several = len(self.activations.targets) > 1
        self.each = {name: ReconstructionSums() for name in self.activations.target_names if several}

    def add(self, y_NE: Tensor, recon_NE: Tensor, document_N: NDArray[Any]) -> None:
        self.together.add(y_NE, recon_NE, document_N)
        widths = list(self.activations.widths.writes)
        parts = zip(torch.split(y_NE, widths, 1), torch.split(recon_NE, widths, 1), strict=True)
        for sums, (target, recon) in zip(self.each.values(), parts, strict=False):
            sums.add(target, recon, document_N)

    def values(self) -> Values:
        each: Values = {
            MetricName("fvu", name): sums.values()[MetricName("fvu")] for name, sums in self.each.items()
        }
        return self.together.values() | each

    def intervals(self) -> Intervals:
        each: Intervals = {
            MetricName("fvu", name): sums.intervals()[MetricName("fvu")] for name, sums in self.each.items()
        }
        return self.together.intervals() | each


@dataclass
class _Measured:
    """Values with their intervals and the tokens they come from."""

    n: int
    k: int
    """Realised mean number of active latents, rounded, at least 1."""
    values: Values
    intervals: Intervals
    n_without: int = 0
    """Tokens without massive norm."""

    def rows(self, controls: Controls) -> list[dict[str, Any]]:
        """Rows of ``dictionary_metrics`` with the controls."""
        linear, random = controls.measured["linear"], controls.measured["random"]
        return [
            metric_row(
                name,
                value,
                self.n_without if name.variant.endswith(WITHOUT_MASSIVE) else self.n,
                controls.values(linear.get(name), random.get(name)),
                interval=self.intervals.get(name) if value is not None else None,
            )
            for name, value in self.values.items()
        ]


class _Sums(Protocol):
    """Sums that give metrics with their intervals."""

    def add(self, y_NE: Tensor, recon_NE: Tensor, document_N: NDArray[Any]) -> None: ...

    def values(self) -> Values: ...

    def intervals(self) -> Intervals: ...


class _Twice:
    """The same sums over all tokens and over those without massive norm."""

    def __init__(self, make: Callable[[], _Sums], *, is_split: bool) -> None:
        self.is_split = is_split
        self.every, self.ordinary = make(), make()
        self.n_massive = self.n_ordinary = 0

    def add(self, batch: EvalTokens, y_NE: Tensor, recon_NE: Tensor) -> None:
        self.every.add(y_NE, recon_NE, batch.document_N)
        kept_N = ~batch.massive_N
        self.n_massive += int(batch.massive_N.sum())
        self.n_ordinary += int(kept_N.sum())
        if self.is_split and kept_N.any():
            keep = torch.from_numpy(kept_N).to(y_NE.device)
            self.ordinary.add(y_NE[keep], recon_NE[keep], batch.document_N[kept_N])

    def results(self) -> tuple[Values, Intervals]:
        """Metrics of all tokens, and as variants those without massive tokens if there are any."""
        values, intervals = self.every.values(), self.every.intervals()
        if self.n_massive and self.n_ordinary:
            values |= {_without(name): value for name, value in self.ordinary.values().items()}
            intervals |= {_without(name): found for name, found in self.ordinary.intervals().items()}
        return values, intervals


def _without(name: MetricName) -> MetricName:
    return name._replace(variant=" ".join(filter(None, (name.variant, WITHOUT_MASSIVE))))


def _measure(
    dictionary: Dictionary,
    activations: HookpointActivations,
    config: EvaluationConfig,
    what: str,
    listener: ProgressListener,
) -> _Measured:
    is_split = has_massive(activations)
    reconstruction = _Twice(lambda: _TargetSums(activations), is_split=is_split)
    skip = _Twice(SkipSums, is_split=is_split)
    sparsity = SparsitySums(dictionary.d_sae)
    for batch in eval_tokens(activations, config.max_tokens, dictionary.d_sae, what, listener):
        x_ND, y_NE = activations.split(batch.values_NW.to(dictionary.W_dec.device))
        codes = dictionary.encode_sparse(x_ND)
        sparsity.add(*codes, batch.document_N)
        reconstruction.add(batch, y_NE, dictionary.decode_sparse(*codes, x_ND))
        if dictionary.has_skip:
            skip.add(batch, y_NE, dictionary.add_offset(torch.zeros_like(y_NE), x_ND))
    if sparsity.n == 0:
        raise UserError(
            "the activation set has no valid eval tokens: raise eval_share, or cache more documents"
        )
    values, intervals = reconstruction.results()
    if dictionary.has_skip:
        skip_values, skip_intervals = skip.results()
        values |= skip_values
        intervals |= skip_intervals
    values |= sparsity.values()
    intervals |= sparsity.intervals()
    k = max(round(sparsity.l0), 1)
    return _Measured(sparsity.n, k, values, intervals, reconstruction.n_ordinary)


def _controls(
    activations: HookpointActivations,
    dictionary: Dictionary,
    k: int,
    config: EvaluationConfig,
    listener: ProgressListener,
) -> Controls:
    """Both controls at a k, fitted on train tokens and measured on eval tokens."""
    listener(Progress("controls fitted", 0, 1))
    x_ND, y_NE = activations.split(sample_tokens(activations, "train", config.max_control_tokens))
    reconstructs = activations.writes is None
    controls = fit_controls(x_ND, y_NE, k, dictionary.d_sae, config.seed, reconstructs=reconstructs)
    listener(Progress("controls fitted", 1, 1))
    controls.random.to(dictionary.W_dec.device)
    linear = _Twice(lambda: _TargetSums(activations), is_split=has_massive(activations))
    d_sae = controls.random.d_sae
    for batch in eval_tokens(
        activations, config.max_tokens, d_sae, "sequences for the linear control", listener
    ):
        x_ND, y_NE = activations.split(batch.values_NW)
        linear.add(batch, y_NE, controls.linear(x_ND))
    measured = _measure(controls.random, activations, config, "sequences for the random control", listener)
    random = measured.values | metrics.decoder_geometry(controls.random)
    controls.measured.update(linear=linear.results()[0], random=random)
    return controls


def _of_hookpoints(dictionary: Dictionary) -> Values:
    """How the latents of a crosscoder share its hookpoints."""
    if not isinstance(dictionary, Crosscoding):
        return {}
    relative_L, cosine_L = dictionary.relative_norms(), dictionary.first_last_cosine()
    norms_LM = dictionary.comparable_norms().detach()
    values: Values = {
        MetricName("relative_norm", name): float(torch.quantile(relative_L, q))
        for name, q in {"p05": 0.05, "median": 0.5, "p95": 0.95}.items()
    }
    if cosine_L is not None:
        last_share_L = norms_LM[:, -1] / (norms_LM[:, 0] + norms_LM[:, -1]).clamp_min(1e-12)
        shared_L = (last_share_L - 0.5).abs() < 0.2
        values[MetricName("first_last_cosine", "shared")] = (
            float(cosine_L[shared_L].mean()) if shared_L.any() else None
        )
    return values
