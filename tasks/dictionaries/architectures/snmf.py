"""Semi-nonnegative matrix factorisation of MLP activations (arXiv 2506.10920).

Legend: N tokens, D d_in, K factors.
"""

import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from catalog.errors import UserError
from catalog.schemas import UnitType
from tasks.common.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tasks.common.progress import Progress
from tasks.dictionaries.base import ARCHITECTURES
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.families import nnls
from tasks.dictionaries.families.nnls import Start
from tasks.dictionaries.fitted import FittedConfig, FittedDictionary, Fitting
from tasks.dictionaries.trained import TrainedDictionary, TrainingInterrupted
from tasks.dictionaries.training_log import TrainingLog
from tasks.dictionaries.widths import Widths

_MOST_VALUES = 2**28
_LOGGED_ITERATIONS = 200


class SnmfConfig(FittedConfig):
    """Activations as non-negative mixtures of factors over neurons; ``d_sae`` is the number of factors."""

    width_from_data: ClassVar[bool] = False

    architecture: Literal["snmf"] = "snmf"
    n_tokens: int = Field(default=16_384, ge=1)
    """Number of train tokens to factorise, all at once, at most 2^28 values."""
    winner_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the neurons that each factor keeps, for example 0.01; default: all."""
    start: Start = "kmeans"
    """Initialisation: kmeans, svd or random."""
    max_iterations: int = Field(default=2000, ge=1)
    """Limit on the number of iterations."""
    tolerance: float = Field(default=1e-5, ge=0)
    """Relative change of the error between iterations below which it stops, without winners."""
    patience: int = Field(default=200, ge=1)
    """Iterations without a new best after which it stops, with winners."""

    def sparsity_tag(self) -> str:
        return "all" if self.winner_share is None else f"w{self.winner_share:g}"

    def name(self) -> str:
        return DictionaryConfig.name(self)


@dataclass
class _Iteration:
    """All state that changes in the iteration."""

    codes_NK: Tensor
    error: float
    """Share of the squared norm of the activations that is not explained."""
    best_KD: Tensor
    best_error: float
    change: float = 0.0
    """The decrease of the error in the last iteration."""
    step: int = 0
    best_step: int = 0
    log: TrainingLog = field(default_factory=TrainingLog)


@ARCHITECTURES.register("snmf")
class Snmf(FittedDictionary):
    """The code of a token is its least-squares projection on the factors with non-negative weights."""

    purpose = "factorises MLP activations into semi-nonnegative factors"
    unit_type: ClassVar[UnitType] = "factor"
    config: SnmfConfig

    def encode(self, x_ND: Tensor) -> Tensor:
        """Non-negative weights (N, K) of the factors, each token independently."""
        return nnls.nonnegative_codes(x_ND, self.W_dec)

    @classmethod
    @torch.no_grad()
    def fit(cls, config: Any, fitting: Fitting) -> TrainedDictionary:
        """Alternate between factors and codes until the error stops falling; resume from a checkpoint."""
        widths = fitting.activations.widths
        n_values = config.n_tokens * max(widths.d_in, config.n_latents(widths.d_in))
        if n_values > _MOST_VALUES:
            raise UserError(
                f"dictionary {config.name()!r}: {config.n_tokens} tokens are {n_values} values, more than "
                f"{_MOST_VALUES}: lower n_tokens"
            )
        sample_ND = fitting.sample(config.n_tokens)
        digest = _digest(config, sample_ND)
        state = _restore(config, fitting, digest) or _begin(config, sample_ND)
        _iterate(config, fitting, sample_ND, state, digest)
        dictionary = cls(config, Widths.single(widths.d_in))
        dictionary.W_dec.copy_(state.best_KD)
        dictionary.normalise_decoder()
        dictionary.W_enc.copy_(dictionary.W_dec.T)
        return fitting.finish(dictionary, sample_ND, state.log, state.step)


def _begin(config: SnmfConfig, a_ND: Tensor) -> _Iteration:
    generator = torch.Generator().manual_seed(config.seed)
    n_factors = config.n_latents(a_ND.shape[1])
    codes_NK = nnls.first_codes(a_ND, n_factors, config.start, generator)
    return _Iteration(codes_NK, 1.0, torch.zeros(n_factors, a_ND.shape[1]), math.inf)


def _iterate(config: SnmfConfig, fitting: Fitting, sample_ND: Tensor, state: _Iteration, digest: str) -> None:
    """All remaining iterations; ``state`` ends with the best factors found."""
    saved_at = time.monotonic()
    a_ND = sample_ND / _mean_square(sample_ND).sqrt()
    while not _is_finished(config, state):
        _step(config, a_ND, state)
        if state.step <= 10 or state.step % max(config.max_iterations // _LOGGED_ITERATIONS, 1) == 0:
            state.log.add(state.step, fitting.counts.n_read, {"loss": state.error})
        fitting.listener(Progress("iterations", state.step, config.max_iterations))
        stop = fitting.should_stop() and not _is_finished(config, state)
        if stop or time.monotonic() - saved_at >= fitting.checkpoint_seconds:
            save_checkpoint(fitting.scratch / "checkpoints", _checkpoint(state, digest))
            saved_at = time.monotonic()
        if stop:
            raise TrainingInterrupted(f"stopped at iteration {state.step}")


def _step(config: SnmfConfig, a_ND: Tensor, state: _Iteration) -> None:
    factors_KD = nnls.factor_update(a_ND, state.codes_NK)
    if config.winner_share is not None:
        factors_KD = nnls.keep_winners(factors_KD, config.winner_share)
    factors_KD, codes_NK = nnls.balanced(factors_KD, state.codes_NK)
    state.codes_NK = nnls.code_update(a_ND, factors_KD, codes_NK)
    state.step += 1
    state.change = state.error
    state.error = nnls.squared_error(a_ND, factors_KD, state.codes_NK) / len(a_ND)
    state.change -= state.error
    if not math.isfinite(state.error):
        raise UserError(
            f"dictionary {config.name()!r}: the error is {state.error} at iteration {state.step}: look for "
            "extreme activations, or choose fewer factors"
        )
    if state.error < state.best_error:
        state.best_KD, state.best_error, state.best_step = factors_KD, state.error, state.step


def _is_finished(config: SnmfConfig, state: _Iteration) -> bool:
    if state.step == 0:
        return False
    if config.winner_share is None:
        still = abs(state.change) <= config.tolerance * state.error
    else:
        still = state.step - state.best_step >= config.patience
    return still or state.step >= config.max_iterations


def _mean_square(x_ND: Tensor) -> Tensor:
    return x_ND.square().sum(dim=1).mean().clamp_min(1e-30)


def _digest(config: SnmfConfig, sample_ND: Tensor) -> str:
    text = json.dumps([config.training(), list(sample_ND.shape), float(_mean_square(sample_ND))])
    return hashlib.sha256(text.encode()).hexdigest()


def _checkpoint(state: _Iteration, digest: str) -> Checkpoint:
    return Checkpoint(
        state.step,
        {"best": state.best_KD, "codes": state.codes_NK},
        {},
        {
            "config_digest": digest,
            "n_threads": torch.get_num_threads(),
            "error": state.error,
            "change": state.change,
            "best_error": state.best_error,
            "best_step": state.best_step,
            "log": state.log.rows,
        },
    )


def _restore(config: SnmfConfig, fitting: Fitting, digest: str) -> _Iteration | None:
    checkpoint = load_checkpoint(fitting.scratch / "checkpoints")
    if checkpoint is None:
        return None
    weights, saved = checkpoint.weights, checkpoint.state
    if saved["config_digest"] != digest:
        raise UserError(
            f"the checkpoint at iteration {checkpoint.step} belongs to another configuration or other "
            f"activations than {config.name()!r}: delete the checkpoints folder"
        )
    torch.set_num_threads(saved["n_threads"])
    return _Iteration(
        weights["codes"],
        saved["error"],
        weights["best"],
        saved["best_error"],
        saved["change"],
        checkpoint.step,
        saved["best_step"],
        TrainingLog(saved["log"]),
    )
