"""How well a few latents predict a document label: k-sparse probes on pooled activations.

After Gurnee et al. 2023 (arXiv 2305.01610) and SAEBench (arXiv 2503.09532): the latents are averaged over the
tokens of a document, the k latents with the largest difference of class means are selected on the train
documents, and a logistic regression on them is tested on the eval documents, one class against the rest.
Intervals are over the eval documents, with fixed probes.

Shapes: M documents, F features, C classes, R replicates.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.common.bootstrap import Floats, Interval, document_interval
from tasks.common.progress import ProgressListener, silent, track
from tasks.evaluation.documents import Pooled, labels_of, pool_documents
from tasks.evaluation.probe import Bools, balanced_accuracy, fit_probe, largest_mean_differences
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig, Unmeasurable
from tasks.evaluation.tokens import fit_controls

METRIC = "sparse_probe_accuracy"


class SparseProbingConfig(SuiteConfig):
    """Probes with few latents for a label column of the corpus."""

    suite: Literal["sparse_probing"] = "sparse_probing"
    label: str
    """Label column of the documents to predict from their activations."""
    k: tuple[int, ...] = Field(default=(1, 2, 5, 20), min_length=1)
    """Numbers of latents that a probe may use."""
    max_tokens: int = Field(default=400_000, ge=1)
    """Maximum number of tokens to read, of the train and of the eval documents each."""
    max_classes: int = Field(default=10, ge=2)
    """Number of labels to keep, the most frequent first."""
    min_documents: int = Field(default=10, ge=2)
    """Minimum number of train documents of a label; half as many eval documents."""
    n_shuffles: int = Field(default=5, ge=1)
    """Number of shuffles of the train labels over which the null is averaged."""
    min_tokens: int = Field(default=8, ge=1)
    """A document with fewer tokens read is left out."""

    def tag(self) -> str:
        return f"{self.suite} {self.label}"


@dataclass(frozen=True)
class _Split:
    pooled: Pooled
    y_MC: Bools


@SUITES.register("sparse_probing")
class SparseProbing(Suite):
    """Balanced accuracy on the eval documents, mean over classes; 0.5 is chance."""

    purpose = "probes for a document label with a few latents"
    Config: ClassVar[type[SuiteConfig]] = SparseProbingConfig
    reads: ClassVar[frozenset[str]] = frozenset({"labels"})
    config: SparseProbingConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return tuple((METRIC, self._variant(k)) for k in self.config.k)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        self._check_label(subject)
        self._refuse_hopeless(subject)
        controls = fit_controls(subject.dictionary, subject.activations, self.config.seed, listener)
        dictionaries = {"own": subject.dictionary, "random": controls.random}
        config = self.config
        limits = (config.max_tokens, dictionaries, config.min_tokens)
        pooled = [
            pool_documents(subject.activations, split, *limits, listener=listener)
            for split in get_args(Split)
        ]
        train, test = self._labelled(pooled[0], pooled[1], subject)
        random = np.random.default_rng(config.seed)
        orders = [random.permutation(len(train.y_MC)) for _ in range(config.n_shuffles)]
        nulls = [_Split(train.pooled, train.y_MC[order]) for order in orders]
        raw_all = _dense_accuracy(train, test)
        metrics = []
        for k in track(config.k, "numbers of latents probed", listener):
            control = {
                "raw": raw_all,
                "raw_k": _sparse_accuracy(train, test, "raw", k),
                "random": _sparse_accuracy(train, test, "random", k),
                "shuffled": float(np.mean([_sparse_accuracy(null, test, "own", k) for null in nulls])),
            }
            answers_MC = _sparse_answers(train, test, "own", k)
            value, interval = _accuracy(answers_MC, test.y_MC), _accuracy_interval(answers_MC, test.y_MC)
            metrics.append(
                Metric(METRIC, self._variant(k), value, len(test.y_MC), control, interval=interval)
            )
        return metrics

    def _variant(self, k: int) -> str:
        return f"{self.config.label}:k{k}"

    def _check_label(self, subject: Subject) -> None:
        known = sorted({name for labels in subject.labels for name in labels})
        if self.config.label not in known:
            columns = f"its label columns are {', '.join(known)}" if known else "it has no label columns"
            raise UserError(f"sparse_probing: the corpus has no label {self.config.label!r}; {columns}")

    def _refuse_hopeless(self, subject: Subject) -> None:
        """Count labelled documents before encoding: the tokens read can only leave some out.

        Raises:
            Unmeasurable: when fewer than two values can have enough documents.
        """
        tokens = subject.activations.tokens
        counts = []
        for split in get_args(Split):
            rows = subject.activations.sequence_rows(split)
            documents, n_tokens = np.unique(
                np.asarray(tokens.document_index[rows])[np.asarray(tokens.valid[rows], dtype=bool)],
                return_counts=True,
            )
            names = labels_of(
                documents[n_tokens >= self.config.min_tokens], subject.labels, self.config.label
            )
            counts.append(Counter(name for name in names if name is not None))
        self._enough(counts)

    def _enough(self, counts: Sequence[Counter[str]]) -> list[str]:
        """Values with enough train and eval documents, most common first."""
        enough = [
            name
            for name, n in counts[0].most_common()
            if n >= self.config.min_documents and counts[1][name] >= self.config.min_documents / 2
        ]
        if len(enough) < 2:
            raise Unmeasurable(
                f"fewer than two values of label {self.config.label!r} have {self.config.min_documents} "
                "train documents and half as many eval documents"
            )
        return enough

    def _labelled(self, train: Pooled, test: Pooled, subject: Subject) -> tuple[_Split, _Split]:
        """Both splits reduced to documents of the classes that have enough of them in both."""
        names = [labels_of(part.documents_M, subject.labels, self.config.label) for part in (train, test)]
        counts = [Counter(name for name in part if name is not None) for part in names]
        classes = self._enough(counts)[: self.config.max_classes]
        return _split(train, names[0], classes), _split(test, names[1], classes)


def _split(pooled: Pooled, names: Sequence[str | None], classes: Sequence[str]) -> _Split:
    keep_M = np.array([name in classes for name in names])
    kept = np.array([name for name in names if name in classes])
    return _Split(pooled.take(keep_M), kept[:, None] == np.array(classes))


def _sparse_accuracy(train: _Split, test: _Split, features: str, k: int) -> float:
    """Mean over classes of the balanced accuracy of a probe on k features chosen on the train documents."""
    return _accuracy(_sparse_answers(train, test, features, k), test.y_MC)


def _sparse_answers(train: _Split, test: _Split, features: str, k: int) -> Bools:
    """Predictions of probes on k features, selected on the train documents, for eval documents: (M, C)."""
    x_MF, test_MF = (
        part.pooled.raw_MD if features == "raw" else part.pooled.codes[features] for part in (train, test)
    )
    y_MC = train.y_MC.astype(np.float64)
    sums_FC, total_F = np.asarray(x_MF.T @ y_MC), np.asarray(x_MF.sum(axis=0)).ravel()
    order_FC = largest_mean_differences(sums_FC, y_MC.sum(axis=0), total_F, len(y_MC))
    answers = []
    for c in range(y_MC.shape[1]):
        chosen = order_FC[:k, c]
        probe = fit_probe(_columns(x_MF, chosen), train.y_MC[:, [c]])
        answers.append(probe.predict(_columns(test_MF, chosen))[:, 0])
    return np.stack(answers, axis=1)


def _dense_accuracy(train: _Split, test: _Split) -> float:
    """The same for a probe on all raw activations: what can be found."""
    return _accuracy(fit_probe(train.pooled.raw_MD, train.y_MC).predict(test.pooled.raw_MD), test.y_MC)


def _accuracy(answers_MC: Bools, y_MC: Bools) -> float:
    """Mean over classes of the balanced accuracy."""
    scores = [balanced_accuracy(answers_MC[:, c], y_MC[:, c]) for c in range(y_MC.shape[1])]
    return float(np.mean(scores))


def _accuracy_interval(answers_MC: Bools, y_MC: Bools) -> Interval:
    """Its interval over documents; a replicate without documents of a class leaves it out of its mean."""

    def accuracy(draws_RM: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            yes_RC = (draws_RM @ (answers_MC & y_MC)) / (draws_RM @ y_MC)
            no_RC = (draws_RM @ (~answers_MC & ~y_MC)) / (draws_RM @ ~y_MC)
        both_RC = (yes_RC + no_RC) / 2
        known_RC = np.isfinite(both_RC)
        total_R = np.where(known_RC, both_RC, 0.0).sum(axis=1)
        n_R = known_RC.sum(axis=1)
        mean_R: Floats = np.where(n_R > 0, total_R / np.maximum(n_R, 1), np.nan)
        return mean_R

    return document_interval(accuracy, len(y_MC))


def _columns(x_MF: Any, chosen: NDArray[Any]) -> NDArray[np.float64]:
    columns = x_MF[:, chosen]
    return np.asarray(columns if isinstance(columns, np.ndarray) else columns.toarray(), np.float64)
