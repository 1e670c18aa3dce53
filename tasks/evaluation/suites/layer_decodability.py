"""From which hookpoint on a linear probe predicts where a feature fires.

A linear probe reads the activations of each cached hookpoint of the model and predicts on which tokens the
feature fires. It is fitted on train documents and tested on eval documents. The first hookpoint, in the order
of the model, whose AUROC reaches ``threshold`` and exceeds that of every probe for shuffled firing is where
the feature is first decodable: earlier layers may hold what it needs, but not in linear form. The idea is
that of usable information by layer (Xu et al. 2020, arXiv 2002.10689), with a bound on AUROC in place of 90
% of the final information.

The null shuffles the firing of all features over the tokens, in both splits. A probe of a random network can
decode much too: look at the same dictionary on a reinitialised model.

Shapes: N tokens, D width, F features probed, L latents, S shuffles.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from catalog.schemas import TABLES, Split
from tasks.common.bootstrap import mean_interval
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.evaluation.suite import SUITES, FeatureSuite, Layer, Metric, Subject, SuiteConfig, Unmeasurable
from tasks.evaluation.tokens import encoded, token_batches
from tasks.measures.linear_probes import Bools, Floats, ProbeSums, aurocs

EARLIER, SHARE = "decodable_earlier", "decodable_share"
_SEQUENCES_AT_ONCE, _TARGETS_AT_ONCE = 64, 256


class LayerDecodabilityConfig(SuiteConfig):
    """Linear probes of the firing of features, at every cached hookpoint of the model."""

    suite: Literal["layer_decodability"] = "layer_decodability"
    max_tokens: int = Field(default=60_000, ge=100)
    """Train tokens to fit on, and about half as many eval tokens to test on."""
    max_features: int = Field(default=1_024, ge=1)
    """Features to probe, drawn at random from those that fire often enough."""
    min_firing: int = Field(default=20, ge=2)
    """Train tokens on which a feature must fire to be probed, and half as many eval tokens."""
    threshold: float = Field(default=0.9, gt=0.5, le=1)
    """AUROC from which on a feature counts as decodable."""
    n_shuffles: int = Field(default=3, ge=1)
    """Number of shuffles of the firing, all of which a probe must exceed."""


class Fired(NamedTuple):
    """Tokens of a split, and which latents fire on each."""

    rows_N: NDArray[np.int64]
    positions_N: NDArray[np.int64]
    fires_NL: Any
    """Sparse (N, L): 1 where a latent fires."""

    def counts(self) -> NDArray[np.int64]:
        """Tokens on which each latent fires: (L,)."""
        return np.asarray(self.fires_NL.sum(axis=0), np.int64).ravel()

    def of(self, features_F: NDArray[np.int64]) -> "Fired":
        """The same tokens, some of the latents."""
        return self._replace(fires_NL=self.fires_NL[:, features_F])


class Probed(NamedTuple):
    """What the probes of one hookpoint reach on eval tokens."""

    auroc_F: NDArray[np.float64]
    null_SF: NDArray[np.float64]

    def passes(self, threshold: float) -> Bools:
        """Which features are decodable."""
        passed_F: Bools = (self.auroc_F >= threshold) & (self.auroc_F > self.null_SF.max(axis=0))
        return passed_F


@SUITES.register("layer_decodability")
class LayerDecodability(FeatureSuite):
    """Counted in features."""

    purpose = "finds the first layer from which a linear probe predicts where a feature fires"
    reads: ClassVar[frozenset[str]] = frozenset({"layers"})
    table: ClassVar[str] = "decodability"
    config: LayerDecodabilityConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((EARLIER, ""),)

    def measure_features(
        self, subject: Subject, listener: ProgressListener = silent
    ) -> tuple[list[Metric], pa.Table]:
        own = {getattr(reader, "hookpoint", None) for reader in subject.activations.reads}
        if len(subject.layers) < 2:
            raise Unmeasurable("fewer than two hookpoints of the model are cached together")
        train, test = (self._fired(subject, split, listener) for split in ("train", "eval"))
        features_F = self._features(train, test)
        parts = (train.of(features_F), test.of(features_F))
        probed = []
        for number, layer in enumerate(subject.layers):
            probed.append(self._probe(layer, *parts))
            listener(Progress("hookpoints probed", number + 1, len(subject.layers)))
        passes_HF = np.stack([one.passes(self.config.threshold) for one in probed])
        names = [layer.hookpoint for layer in subject.layers]
        is_own_H = np.array([name in own for name in names])
        table = _rows(features_F, names, is_own_H, probed, passes_HF, test.of(features_F))
        return self._metrics(names, is_own_H, probed, passes_HF), table

    def _fired(self, subject: Subject, split: Split, listener: ProgressListener) -> Fired:
        """The tokens to read of a split, about ``max_tokens`` of train and half as many of eval."""
        n_tokens = self.config.max_tokens if split == "train" else self.config.max_tokens // 2
        d_sae = subject.dictionary.d_sae
        rows, positions, fires = [], [], []
        for batch in token_batches(subject.activations, split, n_tokens, d_sae, listener):
            rows.append(batch.rows_N)
            positions.append(batch.positions_N)
            fires.append(sparse.csr_matrix((encoded(subject.dictionary, batch.seen_NW) > 0).numpy()))
        if not rows:
            raise Unmeasurable(f"the activation set has no valid {split} tokens")
        fires_NL = sparse.vstack(fires, format="csr").astype(np.float64)
        return Fired(np.concatenate(rows), np.concatenate(positions), fires_NL)

    def _features(self, train: Fired, test: Fired) -> NDArray[np.int64]:
        """Features that fire often enough in both splits and not on all tokens; some of them if many."""
        least = self.config.min_firing
        n_train_L, n_test_L = train.counts(), test.counts()
        enough_L = (n_train_L >= least) & (n_test_L >= least / 2)
        enough_L &= (n_train_L < len(train.rows_N)) & (n_test_L < len(test.rows_N))
        found = np.flatnonzero(enough_L)
        if not len(found):
            raise Unmeasurable(f"no feature fires on {least} train tokens and half as many eval tokens")
        if len(found) <= self.config.max_features:
            return found
        random = np.random.default_rng(self.config.seed)
        return np.sort(random.choice(found, self.config.max_features, replace=False))

    def _probe(self, layer: Layer, train: Fired, test: Fired) -> Probed:
        """Probes at one hookpoint for the true firing and for each shuffle of it, each tested on its own."""
        orders, test_orders = (self._orders(len(part.rows_N), n) for n, part in enumerate((train, test)))
        fires_NC = sparse.hstack([train.fires_NL[order] for order in orders], format="csr")
        sums = ProbeSums()
        for part, x_ND in _activations(layer, train):
            finite_N = np.isfinite(x_ND).all(axis=1)
            sums.add(x_ND[finite_N], fires_NC[part][finite_N])
        x_ND = np.concatenate([block for _, block in _activations(layer, test)])
        finite_N = np.isfinite(x_ND).all(axis=1)
        fires_NF = test.fires_NL.toarray() > 0
        weights_DSF = sums.weights().reshape(x_ND.shape[1], len(orders), -1)
        auroc_SF = np.empty(weights_DSF.shape[1:])
        for number, order in enumerate(test_orders):
            for start in range(0, auroc_SF.shape[1], _TARGETS_AT_ONCE):
                some = slice(start, start + _TARGETS_AT_ONCE)
                scores_NF = x_ND[finite_N] @ weights_DSF[:, number, some].astype(np.float32)
                auroc_SF[number, some] = aurocs(scores_NF, fires_NF[order, some][finite_N])
        return Probed(auroc_SF[0], auroc_SF[1:])

    def _orders(self, n_tokens: int, stream: int) -> list[NDArray[np.int64]]:
        """The true order of the tokens, then the shuffles."""
        random = np.random.default_rng((self.config.seed, stream))
        shuffles = (random.permutation(n_tokens) for _ in range(self.config.n_shuffles))
        return [np.arange(n_tokens), *shuffles]

    def _metrics(
        self, names: Sequence[str], is_own_H: Bools, probed: Sequence[Probed], passes_HF: Bools
    ) -> list[Metric]:
        """Shares of the features that are decodable: at each hookpoint, and anywhere before the own one."""
        threshold = self.config.threshold
        null_HSF = np.stack([one.null_SF >= threshold for one in probed])
        first_own = int(np.flatnonzero(is_own_H)[0]) if is_own_H.any() else len(names)
        note = f"AUROC of at least {threshold} on eval documents"
        earlier_F: Bools = np.logical_or.reduce(passes_HF[:first_own], axis=0)
        null_SF: Bools = np.logical_or.reduce(null_HSF[:first_own], axis=0)
        metrics = [_share(EARLIER, "", earlier_F, null_SF, note)]
        for number, name in enumerate(names):
            metrics.append(_share(SHARE, name, passes_HF[number], null_HSF[number], note))
        return metrics


def _share(metric: str, variant: str, passes_F: Bools, null_SF: Bools, note: str) -> Metric:
    """The share of features that pass, with that of shuffled firing."""
    control = {"shuffled_firing": float(null_SF.mean())}
    interval = mean_interval(passes_F.astype(np.float64))
    value = float(passes_F.mean())
    return Metric(metric, variant, value, len(passes_F), control, note, interval=interval, unit="features")


def _activations(layer: Layer, tokens: Fired) -> Iterator[tuple[slice, Floats]]:
    """Activations of a hookpoint on these tokens, a block of sequences at a time, with the place of each."""
    rows_S, starts_S = np.unique(tokens.rows_N, return_index=True)
    edges = np.append(starts_S, len(tokens.rows_N))
    for start in range(0, len(rows_S), _SEQUENCES_AT_ONCE):
        end = min(start + _SEQUENCES_AT_ONCE, len(rows_S))
        part = slice(int(edges[start]), int(edges[end]))
        values_STD = layer.activations.read(rows_S[start:end])
        place_N = np.searchsorted(rows_S[start:end], tokens.rows_N[part])
        yield part, np.asarray(values_STD[place_N, tokens.positions_N[part]], np.float32)


def _rows(
    features_F: NDArray[np.int64],
    names: Sequence[str],
    is_own_H: Bools,
    probed: Sequence[Probed],
    passes_HF: Bools,
    test: Fired,
) -> pa.Table:
    """A row for each feature and hookpoint, sorted by feature and depth."""
    n_hookpoints, n_features = passes_HF.shape
    is_first_HF = passes_HF & (np.cumsum(passes_HF, axis=0) == 1)

    def by_feature(values_HF: NDArray[Any]) -> NDArray[Any]:
        return values_HF.T.ravel()

    columns: dict[str, Any] = {
        "feature_index": np.repeat(features_F, n_hookpoints).astype(np.int32),
        "hookpoint": list(names) * n_features,
        "depth": np.tile(np.arange(n_hookpoints, dtype=np.int32), n_features),
        "is_own": np.tile(is_own_H, n_features),
        "auroc": by_feature(np.stack([one.auroc_F for one in probed])),
        "null_auroc": by_feature(np.stack([one.null_SF.mean(axis=0) for one in probed])),
        "null_high": by_feature(np.stack([one.null_SF.max(axis=0) for one in probed])),
        "is_decodable": by_feature(passes_HF),
        "is_first": by_feature(is_first_HF),
        "n_firing": np.repeat(test.counts(), n_hookpoints),
        "n_tokens": np.full(n_hookpoints * n_features, len(test.rows_N), dtype=np.int64),
        "metric_version": np.full(n_hookpoints * n_features, LayerDecodability.version, dtype=np.int32),
    }
    spec = TABLES[LayerDecodability.table]
    return pa.table({name: pa.array(values, spec.column(name).type) for name, values in columns.items()})
