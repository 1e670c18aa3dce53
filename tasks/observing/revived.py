"""Features that are silent on side b: is what they responded to gone, or still there for a linear probe?

The test of non-removal (methods B12.5): on the aligned tokens, a linear probe reads the activations of side b
and predicts where the feature fires on side a. It is fitted on some documents and tested on others. If it
succeeds the model still has the information, only the feature does not respond to it any more.

The null shuffles the labels within each block of documents. A probe of a random network finds what is in the
tokens themselves, so compare with a reinitialised model before calling a success surprising.

Shapes: S segments of a block, L features, F silent features, D width, R shuffles.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, hstack, vstack

from tasks.activations.reading.shards import ActivationSet
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary
from tasks.measures.linear_probes import ProbeSums, aurocs
from tasks.observing.config import ModelsComparison
from tasks.observing.documents import Floats, Ints
from tasks.observing.paired_sums import PairedSums, paired_blocks

SILENT_SHARE = 0.05
"""A feature is silent on b if it fires on at most this share of the tokens on which it fires on a."""
REVIVED_AUROC = 0.9
"""A probe must reach it on documents that it has not seen."""
MAX_SEGMENTS, MAX_FEATURES = 60_000, 1_024
_TEST_SHARE, _SHUFFLES = 0.25, 3
_FEWEST_TRAIN, _FEWEST_TEST = 10, 5


class Revived(NamedTuple):
    """What probes find of the silent features; NaN where too few tokens decide."""

    feature_F: Ints
    auroc_F: Floats
    null_F: Floats
    """The best probe for shuffled labels."""

    def passes(self) -> npt.NDArray[np.bool_]:
        """Features that a probe still finds: (F,)."""
        found: npt.NDArray[np.bool_] = (self.auroc_F >= REVIVED_AUROC) & (self.auroc_F > self.null_F)
        return found

    def facts(self) -> dict[str, int]:
        """How many features are silent, and how many of them a probe finds."""
        return {"n_silent": len(self.feature_F), "n_revived": int(self.passes().sum())}


def silent_features(sums: PairedSums, feature_F: Ints) -> Ints:
    """Those that fire on a and are silent on b, the most frequent ones of a first."""
    fires_a, fires_b = (sums.firings[side][feature_F] for side in (0, 1))
    found: Ints = feature_F[(fires_a > 0) & (fires_b <= SILENT_SHARE * fires_a)]
    order = np.argsort(-sums.firings[0][found], kind="stable")
    return np.sort(found[order][:MAX_FEATURES])


def revived(
    dictionary: Dictionary,
    sets: tuple[ActivationSet, ActivationSet],
    config: ModelsComparison,
    feature_F: Ints,
    listener: ProgressListener = silent,
) -> Revived:
    """Probe side b for the firing of silent features on side a; reads the text once more."""
    if not len(feature_F):
        nothing = np.zeros(0)
        return Revived(feature_F, nothing, nothing)
    random = np.random.default_rng((config.seed, 1))
    some = config.model_copy(update={"max_segments": min(config.max_segments, MAX_SEGMENTS)})
    sums, n_features = ProbeSums(), len(feature_F)
    tests: list[tuple[npt.NDArray[np.float32], csr_array]] = []
    for block in paired_blocks(dictionary, sets, some, listener):
        fires_SF = csr_array((block.a_SL > 0).astype(np.float64).tocsc()[:, feature_F])
        is_test_S = _is_test(block.document_S, config.seed)
        for is_part_S, is_test in ((~is_test_S, False), (is_test_S, True)):
            x_SD, y_SF = block.x_b_SD[is_part_S], fires_SF[is_part_S]
            if not len(x_SD):
                continue
            shuffled = [y_SF[random.permutation(len(x_SD))] for _ in range(_SHUFFLES)]
            y_SC = csr_array(hstack([y_SF, *shuffled]))
            if is_test:
                tests.append((x_SD, y_SC))
            else:
                sums.add(x_SD, y_SC)
    auroc_RF, enough_F = _tested(sums, tests, n_features)
    auroc_F = np.where(enough_F, auroc_RF[0], np.nan)
    return Revived(feature_F, auroc_F, np.where(enough_F, auroc_RF[1:].max(axis=0), np.nan))


def _is_test(document_S: Ints, seed: int) -> npt.NDArray[np.bool_]:
    """Whether a token belongs to a document that tests; every fourth on average, the same in every run."""
    documents, of_S = np.unique(document_S, return_inverse=True)
    draws = [np.random.default_rng((seed, 2, int(document))).random() for document in documents]
    is_test_S: npt.NDArray[np.bool_] = (np.array(draws) < _TEST_SHARE)[of_S]
    return is_test_S


def _tested(
    sums: ProbeSums, tests: list[tuple[npt.NDArray[np.float32], csr_array]], n_features: int
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """AUROC of each probe on the test documents, and whether enough tokens decide it."""
    if not sums.n or not tests:
        return np.full((1 + _SHUFFLES, n_features), np.nan), np.zeros(n_features, dtype=bool)
    x_SD = np.concatenate([x for x, _ in tests])
    y_SC = csr_array(vstack([y for _, y in tests])).toarray() > 0
    n_train_F = np.asarray(sums.y_C)[:n_features]
    n_test_F = y_SC[:, :n_features].sum(axis=0)
    scores_SC = (x_SD @ sums.weights()).astype(np.float32)
    auroc_RF = aurocs(scores_SC, y_SC).reshape(1 + _SHUFFLES, n_features)
    return auroc_RF, (n_train_F >= _FEWEST_TRAIN) & (n_test_F >= _FEWEST_TEST)
