"""Activations with known true features: planted directions with hierarchy, correlation and noise.

Every token is a sum of the directions of its active features, each with its own strength, plus Gaussian
noise. Features are of four kinds:

- ``parent`` features, each with ``children`` that fire only on tokens where it fires, at most one at a time;
- ``correlated`` features in groups: a Gaussian copula with one common factor, correlation ``correlation``;
- ``independent`` features for the rest.

Frequencies fall as rank^-zipf within the kinds and are scaled so that ``mean_active`` features are active on
an average token.

Shapes: N tokens, F features, D width, S sequences, T context.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import ndtri

from catalog.schemas import Split
from tasks.common.config import StrictConfig

CONTEXT = 32
EVAL_SHARE = 0.1
_LARGEST_FREQUENCY = 0.5
"""A feature that is active more often than not is an offset, not a feature."""


class SyntheticConfig(StrictConfig):
    """Sizes of the planted data."""

    d_in: int = Field(default=32, ge=2)
    """Width of the activations."""
    n_features: int = Field(default=64, ge=4)
    """Planted directions."""
    mean_active: float = Field(default=3.0, gt=0)
    """Mean number of active features of a token."""
    n_parents: int = Field(default=6, ge=0)
    """Features that have children."""
    n_children: int = Field(default=3, ge=1)
    """Children of each parent."""
    child_share: float = Field(default=0.6, gt=0, le=1)
    """Share of a parent's tokens on which one of its children fires too."""
    n_correlated: int = Field(default=16, ge=0)
    """Features in correlated groups of four."""
    correlation: float = Field(default=0.6, ge=0, lt=1)
    """Correlation of the Gaussian variables behind a group."""
    zipf: float = Field(default=0.5, ge=0)
    """How fast frequencies fall with rank."""
    noise: float = Field(default=0.05, ge=0)
    """Standard deviation of the noise in each dimension; a feature has strength 1 to 2."""
    n_tokens: int = Field(default=60_000, ge=CONTEXT * 20)
    """Total number of tokens, a tenth of them for evaluation; training reads the others repeatedly."""
    seed: int = Field(default=0, ge=0)
    """Seed of directions and tokens."""

    @model_validator(mode="after")
    def _kinds_fit(self) -> "SyntheticConfig":
        special = self.n_parents * (1 + self.n_children) + self.n_correlated
        if special > self.n_features:
            raise ValueError(
                f"parents, children and correlated features are {special}, more than n_features = "
                f"{self.n_features}"
            )
        return self


class SyntheticActivations:
    """An activation set in memory with known features; trains and evaluates like a cached one."""

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config
        self.d_in, self.context_length = config.d_in, CONTEXT
        self.n_sequences = config.n_tokens // CONTEXT
        random = np.random.default_rng(config.seed)
        self.kinds_F, self.parent_F = _family(config)
        """Kind of each feature, and the parent of each child (-1 for all others)."""
        self.directions_FD = _directions(random, config)
        self.frequencies_F = _frequencies(config, self.kinds_F, self.parent_F)
        """Probability of each feature to be active."""
        n = self.n_sequences * CONTEXT
        self.active_NF = _draw(random, config, self.kinds_F, self.parent_F, self.frequencies_F, n)
        strengths_NF = random.uniform(1, 2, self.active_NF.shape) * self.active_NF
        values_ND = strengths_NF @ self.directions_FD
        values_ND += config.noise * random.standard_normal(values_ND.shape)
        self._values = values_ND.reshape(self.n_sequences, CONTEXT, config.d_in).astype(np.float32)
        shape = (self.n_sequences, CONTEXT)
        self.tokens = SimpleNamespace(
            valid=np.ones(shape, bool), token_ids=np.zeros(shape, np.int32), n_tokens=n
        )

    def sequence_rows(self, split: Split) -> NDArray[np.int64]:
        """Sequences of a split, ascending; the last tenth is for evaluation."""
        n_train = round(self.n_sequences * (1 - EVAL_SHARE))
        return np.arange(n_train) if split == "train" else np.arange(n_train, self.n_sequences)

    def read(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Activations (n, T, D)."""
        result: NDArray[np.float32] = self._values[rows]
        return result

    def active(self, split: Split) -> NDArray[np.bool_]:
        """Which features are active on the tokens of a split, in order: (N, F)."""
        by_sequence = self.active_NF.reshape(self.n_sequences, CONTEXT, -1)
        return by_sequence[self.sequence_rows(split)].reshape(-1, self.config.n_features)


def _family(config: SyntheticConfig) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Parents first, then their children, the correlated groups, the independent ones."""
    n_children = config.n_parents * config.n_children
    n_rest = config.n_features - config.n_parents - n_children - config.n_correlated
    names = ("parent", "child", "correlated", "independent")
    kinds_F = np.repeat(names, (config.n_parents, n_children, config.n_correlated, n_rest))
    parent_F = np.full(config.n_features, -1)
    parent_F[kinds_F == "child"] = np.repeat(np.arange(config.n_parents), config.n_children)
    return kinds_F, parent_F


def _directions(random: np.random.Generator, config: SyntheticConfig) -> NDArray[np.float64]:
    """Unit vectors pushed apart, as features that share a space would be."""
    rows_FD = random.standard_normal((config.n_features, config.d_in))
    rows_FD /= np.linalg.norm(rows_FD, axis=1, keepdims=True)
    for _ in range(200):
        cosines = rows_FD @ rows_FD.T
        np.fill_diagonal(cosines, 0)
        rows_FD -= 0.05 * cosines**3 @ rows_FD
        rows_FD /= np.linalg.norm(rows_FD, axis=1, keepdims=True)
    return rows_FD


def _frequencies(
    config: SyntheticConfig, kinds_F: NDArray[np.str_], parent_F: NDArray[np.int64]
) -> NDArray[np.float64]:
    weight_F = np.zeros(config.n_features)
    for kind in ("parent", "correlated", "independent"):
        chosen = kinds_F == kind
        weight_F[chosen] = np.arange(1, chosen.sum() + 1) ** -config.zipf
    children = parent_F >= 0
    weight_F[children] = weight_F[parent_F[children]] * config.child_share / config.n_children
    result: NDArray[np.float64] = weight_F * config.mean_active / weight_F.sum()
    roots = ~children
    result[roots] = np.minimum(result[roots], _LARGEST_FREQUENCY)
    result[children] = result[parent_F[children]] * config.child_share / config.n_children
    return result


def _draw(
    random: np.random.Generator,
    config: SyntheticConfig,
    kinds_F: NDArray[np.str_],
    parent_F: NDArray[np.int64],
    frequencies_F: NDArray[np.float64],
    n: int,
) -> NDArray[np.bool_]:
    gaussian_NF = random.standard_normal((n, config.n_features))
    correlated = np.flatnonzero(kinds_F == "correlated")
    for start in range(0, len(correlated), 4):
        group = correlated[start : start + 4]
        common_N1 = random.standard_normal((n, 1))
        gaussian_NF[:, group] *= np.sqrt(1 - config.correlation)
        gaussian_NF[:, group] += np.sqrt(config.correlation) * common_N1
    active_NF: NDArray[np.bool_] = gaussian_NF < ndtri(frequencies_F)
    for parent in range(config.n_parents):
        children = np.flatnonzero(parent_F == parent)
        which_N = np.floor(random.random(n) / config.child_share * len(children)).astype(np.int64)
        for number, child in enumerate(children):
            active_NF[:, child] = active_NF[:, parent] & (which_N == number)
    return active_NF
