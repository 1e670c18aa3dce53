"""Tokens of massive norm: few tokens, mostly at the start, that hold most of the variance.

Sun et al. 2024 (arXiv 2402.17762, "Massive Activations in Large Language Models"): models keep a few very
large activations on the first token and on delimiters, as attention sinks. One such token can hold half of
the variance of an evaluation, and decide which dictionary looks better. A token counts as massive if the norm
of its activation is over 5 times the median of the valid tokens of its shard, or over the multiple that
``sink_norm_multiple`` gives.

Shapes: S sequences, T context.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.activations.reading.shard_files import ShardRecord
from tasks.activations.text.packing import PackedTokens

Norms = npt.NDArray[np.float32]

FACTOR = 5.0
"""Massive tokens of a 135 M-parameter model had 6 to 150 times the median norm."""
LARGEST_SHARE = 0.1
"""If more tokens of a shard are this large, norms have a heavy tail and no token stands out."""
_POSITIONS = 10
"""The table lists the commonest positions; nearly all massive tokens are at the first few."""


class MassiveRule(NamedTuple):
    """Which tokens are massive: those over ``factor`` times the median, unless they are too many."""

    factor: float = FACTOR
    largest_share: float = LARGEST_SHARE

    @classmethod
    def of(cls, multiple: float | None) -> "MassiveRule":
        """The rule with a multiple that a user chose, which holds for any share; without one the default."""
        return USUAL if multiple is None else cls(multiple, 1.0)


USUAL = MassiveRule()


def rule_in(config: Mapping[str, Any]) -> tuple[MassiveRule, bool]:
    """The rule of a canonical caching configuration, and whether the tokens that it finds are left out."""
    multiple = config.get("sink_norm_multiple")
    return MassiveRule.of(multiple), multiple is not None or config["massive_tokens"] == "drop"


class Found(NamedTuple):
    """Norm statistics of a shard."""

    places: tuple[int, ...]
    """Sequence within the shard x context + position."""
    norms: tuple[float, ...]
    median: float
    square_sum: float


def find_massive(norms_ST: Norms, rule: MassiveRule = USUAL) -> Found:
    """Tokens whose norm is massive; NaN marks tokens that do not count."""
    counted = norms_ST[~np.isnan(norms_ST)].astype(np.float64)
    if not counted.size:
        return Found((), (), 0.0, 0.0)
    median = float(np.median(counted))
    flat = norms_ST.reshape(-1)
    places = np.flatnonzero(flat > rule.factor * median) if median > 0 else np.empty(0, dtype=np.int64)
    if len(places) > rule.largest_share * counted.size:
        places = places[:0]
    norms = tuple(float(norm) for norm in flat[places])
    return Found(tuple(places.tolist()), norms, median, float(np.square(counted).sum()))


@dataclass(frozen=True, slots=True)
class MassiveTokens:
    """The massive tokens of an activation set."""

    n: int
    n_valid: int
    n_train: int
    train_norm_sum: float
    median_norm: float
    max_norm: float | None
    share: float
    """Share of the sum of squared norms."""
    positions: tuple[tuple[int, int], ...]
    """Position in a chunk of a document and number there, most common first."""
    factor: float = FACTOR
    """Multiple of the median norm above which they are massive."""

    def columns(self, *, dropped: bool) -> dict[str, Any]:
        """Columns of ``activation_sets``."""
        return {
            "sink_norm_multiple": self.factor if dropped else None,
            "masked_share": self.n / self.n_valid if dropped and self.n_valid else None,
            "median_norm": self.median_norm,
            "n_massive": self.n,
            "massive_share": self.share,
            "max_norm": self.max_norm,
            "massive_positions": [{"position": place, "n": n} for place, n in self.positions],
        }

    def sentence(self, hookpoint: str, *, dropped: bool) -> str:
        """The log message about them."""
        place, n_there = self.positions[0]
        found = (
            f"{hookpoint}: {self.n:,} of {self.n_valid:,} valid tokens have norms over {self.factor:g} "
            f"times the median ({self.median_norm:.4g}), up to {self.max_norm:.4g}; {n_there:,} of them at "
            f"position {place} of a text; they hold {self.share:.0%} of the squared norms"
        )
        if dropped:
            return f"{found}; they are dropped"
        return (
            f"{found}. Metrics are stored with and without them; to leave them out of training as well set "
            "activations.massive_tokens: drop, or activations.drop_first_token: true if they come first"
        )


def massive_facts(
    records: Mapping[int, ShardRecord], packed: PackedTokens, factor: float = FACTOR
) -> MassiveTokens:
    """Count the massive tokens of all shards, found with ``factor``, by position."""
    context = packed.context_length
    positions: Counter[int] = Counter()
    norms: list[float] = []
    train_norms: list[float] = []
    is_train = packed.is_train
    for record in records.values():
        rows, places = np.divmod(np.array(record.massive, dtype=np.int64), context)
        for row, place, norm in zip(rows + record.first_sequence, places, record.massive_norms, strict=True):
            norms.append(norm)
            if is_train[row]:
                train_norms.append(norm)
            segment_T = np.asarray(packed.segment[int(row)])
            positions[int(place - np.flatnonzero(segment_T == segment_T[place])[0])] += 1
    medians = [record.median_norm for record in records.values() if record.square_sum > 0]
    squares = sum(record.square_sum for record in records.values())
    return MassiveTokens(
        n=len(norms),
        n_valid=int(np.count_nonzero(packed.valid)),
        n_train=len(train_norms),
        train_norm_sum=float(sum(train_norms)),
        median_norm=float(np.median(medians)) if medians else 0.0,
        max_norm=max(norms) if norms else None,
        share=float(np.square(norms).sum() / squares) if squares else 0.0,
        positions=tuple(positions.most_common(_POSITIONS)),
        factor=factor,
    )
