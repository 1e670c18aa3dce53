"""Errors as FAST reports them (arXiv 2506.07691): mean by sequence first, and on special tokens only.

``mse_seqmean`` = (1/S) sum_i (1/T_i) sum_j (1/E) sum_e error_ije^2 over S sequences with T_i valid tokens;
``mse_special`` is the same over only the special tokens, over the sequences that have any. FAST prints the
log2 of these. Short sequences have the same weight as long ones, so neither replaces ``mse``. Intervals are
over
documents: a document counts with its tokens' share of every sequence. Both also have the variant
``without_massive`` if tokens of massive norm are among those read.

Shapes: N tokens, E d_out, G documents.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from tasks.common.bootstrap import Interval, ratio_interval
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.document_table import DocumentTable
from tasks.dictionaries.metrics import WITHOUT_MASSIVE
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig, Unmeasurable
from tasks.evaluation.tokens import TokenBatch, document_of, fit_controls, reconstructed, token_batches
from tasks.measures.eval_tokens import massive_mask

SEQMEAN, SPECIAL = "mse_seqmean", "mse_special"
PARTS = tuple((metric, variant) for variant in ("", WITHOUT_MASSIVE) for metric in (SEQMEAN, SPECIAL))


class SequenceErrorConfig(SuiteConfig):
    """Errors by sequence and on special tokens."""

    suite: Literal["sequence_error"] = "sequence_error"
    max_tokens: int = Field(default=500_000, ge=1)
    """Maximum number of eval tokens to read."""


@dataclass
class SequenceErrors:
    """Running sums; sequences must be complete."""

    n_tokens: int = 0
    n_sequences: int = 0
    total: float = 0.0
    by_document: DocumentTable = field(default_factory=DocumentTable)
    """Share of each document in the sum of the means, and in the number of sequences."""

    def add(self, error_NE: Tensor, sequence_N: NDArray[Any], document_N: NDArray[Any]) -> None:
        """Add the errors of some sequences."""
        if not len(error_NE):
            return
        _, group_N = np.unique(sequence_N, return_inverse=True)
        mean_N = error_NE.double().square().mean(dim=1).numpy()
        counts = np.bincount(group_N)
        self.n_tokens += len(mean_N)
        self.n_sequences += len(counts)
        self.total += float((np.bincount(group_N, weights=mean_N) / counts).sum())
        weight_N = 1 / counts[group_N]
        shares_NC = torch.from_numpy(np.stack([mean_N * weight_N, weight_N], axis=1))
        self.by_document.add(shares_NC, torch.zeros(len(mean_N), 0, dtype=torch.float64), document_N)

    @property
    def value(self) -> float | None:
        """Mean over sequences of the mean squared error; None if there was no sequence."""
        return self.total / self.n_sequences if self.n_sequences else None

    def interval(self) -> Interval | None:
        """Its interval over documents; None if there was no sequence."""
        if not self.n_sequences:
            return None
        return ratio_interval(*self.by_document.sums_GC.T)


Sums = dict[tuple[str, str], dict[str, SequenceErrors]]
"""Errors of the dictionary and of its controls, by metric and variant."""


@SUITES.register("sequence_error")
class SequenceError(Suite):
    """With PCA and a random dictionary of the same k as controls if the input is reconstructed."""

    purpose = "measures errors by sequence and on special tokens"
    version: ClassVar[int] = 2
    config: SequenceErrorConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((SEQMEAN, ""), (SPECIAL, ""))

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        models = self._models(subject, listener)
        sums = {part: {name: SequenceErrors() for name in models} for part in PARTS}
        for batch in token_batches(
            subject.activations, "eval", self.config.max_tokens, subject.dictionary.d_sae, listener
        ):
            document_N = document_of(subject.activations, batch)
            masks = _masks(subject, batch)
            for name, model in models.items():
                error_NE = batch.y_NE - model(batch)
                for part, mask_N in masks.items():
                    sums[part][name].add(error_NE[mask_N], batch.rows_N[mask_N], document_N[mask_N])
        if not sums[SEQMEAN, ""]["own"].n_sequences:
            raise Unmeasurable("the activation set has no valid eval tokens")
        return [_metric(part, sums[part]) for part in PARTS if _is_measured(part, sums)]

    def _models(
        self, subject: Subject, listener: ProgressListener
    ) -> dict[str, Callable[[TokenBatch], Tensor]]:
        """The dictionary and its controls, by name."""
        dictionary = subject.dictionary
        models: dict[str, Callable[[TokenBatch], Tensor]] = {
            "own": lambda batch: reconstructed(dictionary, batch.seen_NW)
        }
        if dictionary.reconstructs_input:
            controls = fit_controls(dictionary, subject.activations, self.config.seed, listener)
            models["pca"] = lambda batch: controls.pca(batch.x_ND)
            models["random"] = lambda batch: reconstructed(controls.random, batch.seen_NW)
        return models


def _masks(subject: Subject, batch: TokenBatch) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """The tokens of a batch that each part counts."""
    place = (batch.rows_N, batch.positions_N)
    token_ids = np.asarray(subject.activations.tokens.token_ids)[place]
    special_N = np.isin(token_ids, np.array(sorted(subject.special_token_ids), np.int64))
    massive = massive_mask(subject.activations)
    ordinary_N = np.ones(len(token_ids), bool) if massive is None else ~massive[place]
    every_N = np.ones(len(token_ids), bool)
    return dict(zip(PARTS, (every_N, special_N, ordinary_N, special_N & ordinary_N), strict=True))


def _is_measured(part: tuple[str, str], sums: Sums) -> bool:
    """Whether the variant has a value: it needs massive tokens, and others."""
    metric, variant = part
    every, ordinary = sums[metric, ""]["own"].n_tokens, sums[metric, WITHOUT_MASSIVE]["own"].n_tokens
    return not variant or 0 < ordinary < every


def _metric(part: tuple[str, str], errors: dict[str, SequenceErrors]) -> Metric:
    own = errors["own"]
    others = {name: one.value for name, one in errors.items() if name != "own"}
    note = None
    if own.value is None:
        note = "no special token of the model or its chat template is among the valid eval tokens"
    return Metric(*part, own.value, own.n_tokens, others, note, interval=own.interval())
