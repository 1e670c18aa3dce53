"""Baseline: the difference of mean activations between documents with a label and those without it."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from catalog.errors import UserError
from catalog.ids import slug
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.fitted import Baseline, BaselineConfig, Fitting
from tasks.dictionaries.trained import TrainedDictionary

_SMALLEST = 1e-6
_PLAIN = re.compile(r"[A-Za-z0-9_.]{1,40}")


class DifferenceOfMeansConfig(BaselineConfig):
    """One direction per value of a label column of the corpus."""

    reads_labels: ClassVar[bool] = True

    architecture: Literal["difference_of_means"] = "difference_of_means"
    label: str = Field(min_length=1)
    """Label column of the corpus, for example topic."""
    values: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Values that get a direction, in this order; default: all values of the train tokens, sorted."""

    def n_latents(self, d_in: int) -> int:
        return self.d_sae or (1 if self.values is None else len(self.values))

    def sparsity_tag(self) -> str:
        label = self.label if _PLAIN.fullmatch(self.label) else slug(self.label)
        return "-".join(filter(None, (label, super().sparsity_tag())))


@ARCHITECTURES.register("difference_of_means")
class DifferenceOfMeans(Baseline):
    """Feature i belongs to ``values[i]`` of the saved configuration.

    Its direction is mean(x | value) - mean(x | any other value, or none), scaled to unit norm; it is active
    where the projection exceeds the midpoint of the two means. One factor for all codes is fitted.
    """

    purpose = "takes one direction per value of a label column"
    config: DifferenceOfMeansConfig

    @classmethod
    def fit(cls, config: Any, fitting: Fitting) -> TrainedDictionary:
        """Sum the train tokens of each value in one pass, in float64.

        Raises:
            UserError: for a label column or a value that the train documents do not have.
        """
        labels = _read_labels(fitting.labels, config.label)
        values = config.values or tuple(sorted(set(labels) - {None}))
        code_of = {value: code for code, value in enumerate(values)}
        codes = np.array([code_of.get(label, len(values)) for label in labels])
        sums_CD, counts_C = _sums(fitting, config.n_tokens, codes, len(values) + 1)
        missing = [value for value, count in zip(values, counts_C.tolist(), strict=False) if count == 0]
        if config.values is not None and missing:
            raise UserError(
                f"dictionary {config.name()!r}: no train token of a document whose {config.label} is "
                f"{missing[0]!r}: leave the value out, or raise n_tokens"
            )
        found = [number for number, value in enumerate(values) if value not in missing]
        values = tuple(values[number] for number in found)
        sums_CD, counts_C = sums_CD[[*found, -1]], counts_C[[*found, -1]]
        total, mean_D = counts_C.sum(), sums_CD.sum(dim=0) / counts_C.sum()
        n_C1 = counts_C[:-1, None]
        if bool((n_C1 == total).any()):
            raise UserError(
                f"dictionary {config.name()!r}: every train token belongs to {config.label} = {values[0]!r}, "
                "there is nothing to compare it with: choose another label"
            )
        inside_CD = sums_CD[:-1] / n_C1
        outside_CD = (sums_CD.sum(dim=0) - sums_CD[:-1]) / (total - n_C1)
        difference_CD = inside_CD - outside_CD
        norms_C1 = difference_CD.norm(dim=1, keepdim=True)
        if float(norms_C1.min()) <= _SMALLEST * float(mean_D.norm()):
            raise UserError(f"dictionary {config.name()!r}: two means are equal, there is no direction")
        directions_CD = difference_CD / norms_C1
        middle_C = (((inside_CD + outside_CD) / 2 - mean_D) * directions_CD).sum(dim=1)
        resolved = config.resolved(len(values), values=values)
        dictionary = cls.assembled(resolved, directions_CD, mean_D, -middle_C)
        sample_ND = fitting.sample(min(config.n_tokens, 16_384))
        dictionary.fit_gain(sample_ND)
        return fitting.finish(dictionary, sample_ND)


def _read_labels(path: Path | None, label: str) -> list[str | None]:
    """The label of each document, None if it has none."""
    rows = [] if path is None else pq.read_table(path, columns=["labels"])["labels"].to_pylist()
    found = [dict(row or ()).get(label) for row in rows]
    if not any(value is not None for value in found):
        names = sorted({name for row in rows for name, _ in row or ()})
        there = f"its documents have {', '.join(names)}" if names else "its documents have no labels"
        raise UserError(f"the corpus has no label column {label!r}: {there}; name one of them in 'label'")
    return found


def _sums(fitting: Fitting, n_tokens: int, codes: NDArray[Any], n_codes: int) -> tuple[Tensor, Tensor]:
    """Sum of the activations (C, D) and number of tokens (C,) per code, float64."""
    sums_CD = torch.zeros(n_codes, fitting.activations.widths.d_in, dtype=torch.float64)
    counts_C = torch.zeros(n_codes, dtype=torch.float64)
    for batch in fitting.batches(n_tokens):
        if batch.document_N.min() < 0 or batch.document_N.max() >= len(codes):
            raise UserError(
                f"the labels of {len(codes)} documents are known, the activations name others: pass the "
                "corpus they were cached from"
            )
        code_N = torch.from_numpy(codes[batch.document_N])
        sums_CD.index_add_(0, code_N, batch.x_ND.double())
        counts_C += torch.bincount(code_N, minlength=n_codes)
    return sums_CD, counts_C
