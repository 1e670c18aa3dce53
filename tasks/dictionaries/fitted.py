"""Dictionaries that are fitted instead of trained by gradient steps: baselines and factorisations.

Legend: N tokens, D d_in, L d_sae.

A fit reads the activations as they are stored, so nothing is folded at its end. If its width follows from the
data, the configuration of the result states it, and that is saved.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from catalog.errors import UserError
from catalog.schemas import Origin, UnitType
from tasks.common.progress import Progress, ProgressListener, silent, track
from tasks.dictionaries.base import Dictionary, HowTrained
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.metrics import MetricName, ReconstructionSums
from tasks.dictionaries.sparse_codes import top_per_token
from tasks.dictionaries.stream import Counts, sample_rows
from tasks.dictionaries.trained import TrainedDictionary, TrainingInterrupted
from tasks.dictionaries.training_log import TrainingLog
from tasks.dictionaries.training_state import TrainingState
from tasks.dictionaries.widths import Widths
from tasks.dictionaries.without_steps import WithoutSteps

_TOKENS_PER_READ = 16_384


class FittedConfig(WithoutSteps):
    """Shared by the methods that are fitted."""

    width_from_data: ClassVar[bool] = True
    """Whether the fit decides how many latents there are."""

    n_tokens: int = Field(default=131_072, ge=1)
    """Maximum number of train tokens for the fit, from sequences spread evenly over the activation set."""

    def check_latents(self) -> None:
        if not self.width_from_data:
            super().check_latents()
        elif self.expansion_factor is not None:
            raise ValueError(f"{self.architecture}: the number of latents follows from the data")

    def name(self) -> str:
        """Readable name, for example pca-c64."""
        return "-".join(filter(None, (self.architecture, self.sparsity_tag())))


class FitBatch(NamedTuple):
    """Some train tokens and their positions."""

    x_ND: Tensor
    document_N: NDArray[Any]
    """Row of the document in the corpus; -1 if the activations do not know it."""


@dataclass
class Fitting:
    """The data of a fit, its working folder, and its listener."""

    activations: HookpointActivations
    scratch: Path
    """Working folder; a long fit stores its checkpoints in ``scratch/checkpoints``."""
    labels: Path | None = None
    """Parquet file with a column ``labels`` (map of text to text), one row per document."""
    listener: ProgressListener = silent
    should_stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 15.0
    """Shortest time between two checkpoints."""
    counts: Counts = field(default_factory=Counts)
    began_at: float = field(default_factory=time.monotonic)

    def batches(self, n_tokens: int) -> Iterator[FitBatch]:
        """Valid, finite train tokens in float32, from sequences spread evenly over the train split.

        Raises:
            UserError: when there is no valid train token, or more than 0.1 % are not finite.
            TrainingInterrupted: when asked to stop.
        """
        rows, context = self.activations.sequence_rows("train"), self.activations.context_length
        if len(rows) == 0 or not np.asarray(self.activations.tokens.valid[rows]).any():
            raise UserError("the activation set has no valid train tokens: cache more documents")
        rows = sample_rows(rows, max(-(-n_tokens // context), 1))
        step, left = max(_TOKENS_PER_READ // context, 1), n_tokens
        for start in range(0, len(rows), step):
            if self.should_stop():
                raise TrainingInterrupted("stopped while reading; a fit reads again from the beginning")
            batch = self._read(rows[start : start + step])
            batch = FitBatch(batch.x_ND[:left], batch.document_N[:left])
            left -= len(batch.x_ND)
            self.listener(Progress("sequences read", min(start + step, len(rows)), len(rows)))
            if len(batch.x_ND):
                yield batch
        self.counts.refuse_many()

    def sample(self, n_tokens: int) -> Tensor:
        """The same tokens in one array: (N, D)."""
        return torch.cat([batch.x_ND for batch in self.batches(n_tokens)])

    def finish(
        self, dictionary: Dictionary, sample_ND: Tensor, log: TrainingLog | None = None, step: int = 1
    ) -> TrainedDictionary:
        """The result with FVU and L0 of ``sample_ND`` as the last row of its log."""
        log, reconstruction, n_active = log or TrainingLog(), ReconstructionSums(), 0
        dictionary = dictionary.eval().requires_grad_(False)
        parts = torch.split(sample_ND, _TOKENS_PER_READ)
        for x_ND in track(parts, "parts of the sample measured", self.listener):
            values_NK, indices_NK = dictionary.encode_sparse(x_ND)
            reconstruction.add(x_ND, dictionary.decode_sparse(values_NK, indices_NK, x_ND))
            n_active += int((values_NK > 0).sum())
        fvu = reconstruction.values()[MetricName("fvu")]
        values = {"l0": n_active / len(sample_ND), **({} if fvu is None else {"fvu": fvu})}
        log.add(step, self.counts.n_read, values)
        seconds = max(time.monotonic() - self.began_at, 1e-9)
        scales = (1.0,) * len(self.activations.hookpoint_widths)
        return TrainedDictionary(
            dictionary, log.table(), scales, self.counts.n_nonfinite, self.counts.n_read / seconds
        )

    def _read(self, rows: NDArray[Any]) -> FitBatch:
        tokens = self.activations.tokens
        valid_BT = np.asarray(tokens.valid[rows], dtype=bool)
        values_NW = torch.from_numpy(np.ascontiguousarray(self.activations.read(rows)[valid_BT])).float()
        index = getattr(tokens, "document_index", None)
        document_N = np.full(len(values_NW), -1) if index is None else np.asarray(index[rows])[valid_BT]
        finite_N = values_NW.sum(dim=1).isfinite()
        self.counts.n_read += len(values_NW)
        self.counts.n_nonfinite += int((~finite_N).sum())
        x_ND, _ = self.activations.split(values_NW[finite_N])
        return FitBatch(x_ND, document_N[finite_N.numpy()])


class FittedDictionary(Dictionary):
    """A subclass defines how it is fitted; it takes no gradient steps."""

    how_trained: ClassVar[HowTrained] = "fit"

    @classmethod
    @abstractmethod
    def fit(cls, config: Any, fitting: Fitting) -> TrainedDictionary:
        """Fit to the train tokens; deterministic, and independent of interruptions.

        Raises:
            UserError: when the data cannot be fitted as configured.
            TrainingInterrupted: when ``fitting.should_stop`` returned true.
        """

    def training_loss(self, x_ND: Tensor, y_NE: Tensor, state: TrainingState) -> NoReturn:
        """Not for fitted dictionaries."""
        raise TypeError(f"{self.config.architecture} is fitted, see {type(self).__name__}.fit")


class BaselineConfig(FittedConfig):
    """Shared by the baselines: all active units, or the strongest of them."""

    k: int | None = Field(default=None, ge=1)
    """Units to keep per token, the strongest; default: all with a positive value."""

    def sparsity_tag(self) -> str:
        return "" if self.k is None else f"k{self.k}"

    def resolved(self, n_latents: int, **changes: Any) -> Self:
        """The configuration with the width that the fit found.

        Raises:
            UserError: when another width was requested.
        """
        if self.d_sae not in (None, n_latents):
            raise UserError(
                f"dictionary {self.name()!r} has {n_latents} units on these activations, not {self.d_sae}: "
                "leave d_sae out"
            )
        return self.model_copy(update={"d_sae": n_latents, **changes})


class Baseline(FittedDictionary):
    """Given directions; the code is the positive part of their products: relu((x - b_dec) W_enc + b_enc)."""

    unit_type: ClassVar[UnitType] = "direction"
    origin: ClassVar[Origin] = "baseline"
    config: BaselineConfig

    @classmethod
    def assembled(
        cls, config: BaselineConfig, directions_LD: Tensor, centre_D: Tensor, bias_L: Tensor | None = None
    ) -> Self:
        """A baseline with these unit directions as decoder rows and encoder columns."""
        dictionary = cls(config, Widths.single(directions_LD.shape[1]))
        weights: Mapping[str, Tensor | None] = {
            "W_dec": directions_LD,
            "W_enc": directions_LD.T,
            "b_dec": centre_D,
            "b_enc": bias_L,
        }
        with torch.no_grad():
            for name, value in weights.items():
                if value is not None:
                    getattr(dictionary, name).copy_(value)
        return dictionary

    @torch.no_grad()
    def fit_gain(self, sample_ND: Tensor) -> None:
        """Multiply the code by the factor that reconstructs the sample best (least squares).

        Directions that overlap add up to too much; a baseline should be as good as possible.
        """
        products = squares = 0.0
        for x_ND in torch.split(sample_ND, _TOKENS_PER_READ):
            recon_ND = self.decode_sparse(*self.encode_sparse(x_ND), x_ND) - self.b_dec
            products += float(((x_ND - self.b_dec) * recon_ND).sum(dtype=torch.float64))
            squares += float(recon_ND.square().sum(dtype=torch.float64))
        if products > 0:
            self.W_enc.mul_(products / squares)
            self.b_enc.mul_(products / squares)

    def encode(self, x_ND: Tensor) -> Tensor:
        """Latent activations (N, L)."""
        if self.config.k is None:
            return self.pre_acts(x_ND).relu()
        values_NK, indices_NK = self.encode_sparse(x_ND)
        return values_NK.new_zeros(len(x_ND), self.d_sae).scatter(1, indices_NK, values_NK)

    def encode_sparse(self, x_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The positive ones, or the k strongest."""
        if self.config.k is None:
            return super().encode_sparse(x_ND)
        values_NK, indices_NK = top_per_token(self.pre_acts(x_ND), min(self.config.k, self.d_sae))
        return values_NK.relu(), indices_NK
