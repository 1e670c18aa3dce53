"""Measure a dictionary on the eval documents, beside controls of the same k.

Legend: N tokens, W width of all hookpoints together, D d_in, E d_out, K kept per token.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.language_model import LanguageModel
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.coding.crosscoding import Crosscoding
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.measures import metrics
from tasks.dictionaries.measures.controls import Controls, fit_controls
from tasks.dictionaries.measures.fidelity_rows import fidelity_rows
from tasks.dictionaries.measures.metric_rows import SCHEMA, metric_row
from tasks.dictionaries.measures.metrics import MetricName, ReconstructionSums, SkipSums, SparsitySums, Values
from tasks.dictionaries.sites import SiteActivations
from tasks.dictionaries.stream import ActivationReader, read_valid, sample_rows, sample_tokens

__all__ = ["SCHEMA", "eval_batches", "evaluate"]

_CODES_PER_BATCH = 2**24


def evaluate(
    dictionary: Dictionary,
    activations: ActivationReader | SiteActivations,
    language_model: LanguageModel | None,
    config: EvaluationConfig,
    *,
    second_model: LanguageModel | None = None,
    listener: ProgressListener = silent,
) -> pa.Table:
    """All metrics of a dictionary as the columns of ``dictionary_metrics`` without its ids.

    Args:
        dictionary: With its normalisation folded in.
        activations: What it is measured on; metrics read the eval split, controls fit the train split.
        language_model: The model of the activations; without it CE and KL are null with the reason.
        config: How many tokens and sequences.
        second_model: Of a crosscoder of two models the other one.
        listener: Told after each part.

    Raises:
        UserError: when the widths differ or the set has no valid eval tokens.
    """
    sites = SiteActivations.of(activations)
    if dictionary.widths != sites.widths:
        raise UserError(
            f"the dictionary reads activations of width {dictionary.d_in} and writes {dictionary.d_out}; "
            f"these have {sites.widths.d_in} and {sites.widths.d_out}: choose the sets of its own hookpoints"
        )
    device = language_model.device if language_model is not None else dictionary.W_dec.device
    dictionary = copy.deepcopy(dictionary).to(device)
    sparsity, own = _measure(dictionary, sites.as_read_by(dictionary), config)
    listener(Progress("evaluation", 1, 3))
    controls = _fit_controls(sites, dictionary, sparsity, config)
    linear, random = _measure_controls(controls, sites, config)
    own |= metrics.decoder_geometry(dictionary) | _of_sites(dictionary)
    random |= metrics.decoder_geometry(controls.random)
    listener(Progress("evaluation", 2, 3))
    rows = [
        metric_row(name, value, sparsity.n, controls.values(linear.get(name), random.get(name)))
        for name, value in own.items()
    ]
    models = [model for model in (language_model, second_model) if model is not None]
    rows += fidelity_rows(dictionary, controls, sites, models, config)
    listener(Progress("evaluation", 3, 3))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def eval_batches(activations: ActivationReader, n_tokens: int, d_sae: int) -> Iterator[Tensor]:
    """Valid eval tokens (N, W) in float32, from sequences evenly spread over the split."""
    context = activations.context_length
    rows = sample_rows(activations.sequence_rows("eval"), max(n_tokens // context, 1))
    size = max(_CODES_PER_BATCH // (d_sae * context), 1)
    for start in range(0, len(rows), size):
        values_NW = read_valid(activations, rows[start : start + size])
        if len(values_NW):
            yield values_NW.float()


@dataclass
class _TargetSums:
    """Reconstruction of all targets together and, where there are several, of each."""

    sites: SiteActivations

    def __post_init__(self) -> None:
        self.together = ReconstructionSums()
        several = len(self.sites.targets) > 1
        self.each = {name: ReconstructionSums() for name in self.sites.target_names if several}

    def add(self, y_NE: Tensor, recon_NE: Tensor) -> None:
        self.together.add(y_NE, recon_NE)
        widths = list(self.sites.widths.writes)
        parts = zip(torch.split(y_NE, widths, 1), torch.split(recon_NE, widths, 1), strict=True)
        for sums, (target, recon) in zip(self.each.values(), parts, strict=False):
            sums.add(target, recon)

    def values(self) -> Values:
        each: Values = {
            MetricName("fvu", name): sums.values()[MetricName("fvu")] for name, sums in self.each.items()
        }
        return self.together.values() | each


def _measure(
    dictionary: Dictionary, sites: SiteActivations, config: EvaluationConfig
) -> tuple[SparsitySums, Values]:
    reconstruction, skip = _TargetSums(sites), SkipSums()
    sparsity = SparsitySums(dictionary.d_sae)
    for batch_NW in eval_batches(sites, config.max_tokens, dictionary.d_sae):
        x_ND, y_NE = sites.split(batch_NW.to(dictionary.W_dec.device))
        codes = dictionary.encode_sparse(x_ND)
        sparsity.add(*codes)
        reconstruction.add(y_NE, dictionary.decode_sparse(*codes, x_ND))
        if dictionary.has_skip:
            skip.add(y_NE, dictionary.add_offset(torch.zeros_like(y_NE), x_ND))
    if sparsity.n == 0:
        raise UserError(
            "the activation set has no valid eval tokens: raise eval_share, or cache more documents"
        )
    values = reconstruction.values() | sparsity.values()
    return sparsity, values | skip.values() if dictionary.has_skip else values


def _fit_controls(
    sites: SiteActivations, dictionary: Dictionary, sparsity: SparsitySums, config: EvaluationConfig
) -> Controls:
    x_ND, y_NE = sites.split(sample_tokens(sites, "train", config.max_control_tokens))
    k, reconstructs = max(round(sparsity.l0), 1), sites.writes is None
    controls = fit_controls(x_ND, y_NE, k, dictionary.d_sae, config.seed, reconstructs=reconstructs)
    controls.random.to(dictionary.W_dec.device)
    return controls


def _measure_controls(
    controls: Controls, sites: SiteActivations, config: EvaluationConfig
) -> tuple[Values, Values]:
    """Metrics of the linear map (reconstruction alone) and of the random dictionary."""
    reconstruction = _TargetSums(sites)
    for batch_NW in eval_batches(sites, config.max_tokens, controls.random.d_sae):
        x_ND, y_NE = sites.split(batch_NW)
        reconstruction.add(y_NE, controls.linear(x_ND))
    _, random = _measure(controls.random, sites, config)
    return reconstruction.values(), random


def _of_sites(dictionary: Dictionary) -> Values:
    """How the latents of a crosscoder share their hookpoints."""
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
