"""Documents with a label: classes with enough of them, probes on their pooled activations, accuracy.

Shapes: M documents, F features, C classes, R replicates.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.common.bootstrap import Floats, Interval, document_interval
from tasks.evaluation.documents import Pooled, labels_of
from tasks.evaluation.probe import Bools, balanced_accuracy, fit_probe, largest_mean_differences
from tasks.evaluation.suite import Subject, SuiteConfig, Unmeasurable


class LabelConfig(SuiteConfig):
    """Settings of a suite about a label column of the corpus."""

    label: str
    """Label column of the documents."""
    max_tokens: int = Field(default=400_000, ge=1)
    """Maximum number of tokens to read, of the train and of the eval documents each."""
    max_classes: int = Field(default=10, ge=2)
    """Number of labels to keep, the most frequent first."""
    min_documents: int = Field(default=10, ge=2)
    """Minimum number of train documents of a label; half as many eval documents."""
    min_tokens: int = Field(default=8, ge=1)
    """A document with fewer tokens read is left out."""

    def tag(self) -> str:
        return f"{self.suite} {self.label}"


@dataclass(frozen=True)
class Labelled:
    """Documents of a split with their classes."""

    pooled: Pooled
    y_MC: Bools


def check_label(config: LabelConfig, subject: Subject) -> None:
    """Refuse a label that the corpus lacks.

    Raises:
        UserError: naming the labels that there are.
    """
    known = sorted({name for labels in subject.labels for name in labels})
    if config.label not in known:
        columns = f"its label columns are {', '.join(known)}" if known else "it has no label columns"
        raise UserError(f"{config.suite}: the corpus has no label {config.label!r}; {columns}")


def refuse_hopeless(config: LabelConfig, subject: Subject) -> None:
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
        names = labels_of(documents[n_tokens >= config.min_tokens], subject.labels, config.label)
        counts.append(Counter(name for name in names if name is not None))
    _enough(config, counts)


def _enough(config: LabelConfig, counts: Sequence[Counter[str]]) -> list[str]:
    """Values with enough train and eval documents, most common first."""
    enough = [
        name
        for name, n in counts[0].most_common()
        if n >= config.min_documents and counts[1][name] >= config.min_documents / 2
    ]
    if len(enough) < 2:
        raise Unmeasurable(
            f"fewer than two values of label {config.label!r} have {config.min_documents} "
            "train documents and half as many eval documents"
        )
    return enough


def labelled_eval(config: LabelConfig, test: Pooled, subject: Subject) -> Labelled:
    """The eval documents of the classes that have enough of them.

    Raises:
        Unmeasurable: when fewer than two values do.
    """
    names = labels_of(test.documents_M, subject.labels, config.label)
    counts = Counter(name for name in names if name is not None)
    least = max(config.min_documents / 2, 2)
    classes = [name for name, n in counts.most_common(config.max_classes) if n >= least]
    if len(classes) < 2:
        raise Unmeasurable(f"fewer than two values of label {config.label!r} have {least:g} eval documents")
    return _split(test, names, classes)


def labelled(config: LabelConfig, train: Pooled, test: Pooled, subject: Subject) -> tuple[Labelled, Labelled]:
    """Both splits reduced to documents of the classes that have enough of them in both."""
    names = [labels_of(part.documents_M, subject.labels, config.label) for part in (train, test)]
    counts = [Counter(name for name in part if name is not None) for part in names]
    classes = _enough(config, counts)[: config.max_classes]
    return _split(train, names[0], classes), _split(test, names[1], classes)


def _split(pooled: Pooled, names: Sequence[str | None], classes: Sequence[str]) -> Labelled:
    keep_M = np.array([name in classes for name in names])
    kept = np.array([name for name in names if name in classes])
    return Labelled(pooled.take(keep_M), kept[:, None] == np.array(classes))


def sparse_accuracy(train: Labelled, test: Labelled, features: str, k: int) -> float:
    """Mean over classes of the balanced accuracy of a probe on k features chosen on the train documents."""
    return accuracy(sparse_answers(train, test, features, k), test.y_MC)


def sparse_answers(
    train: Labelled, test: Labelled, features: str, k: int, among: NDArray[np.int64] | None = None
) -> Bools:
    """Predictions of probes on k features, selected on the train documents, for eval documents: (M, C).

    Args:
        train: Documents to select and to fit on.
        test: Documents to predict.
        features: ``raw``, or the name of a dictionary.
        k: Features of each class.
        among: The features to select from; all by default.
    """
    x_MF, test_MF = (
        part.pooled.raw_MD if features == "raw" else part.pooled.codes[features] for part in (train, test)
    )
    if among is not None:
        x_MF, test_MF = x_MF[:, among], test_MF[:, among]
    y_MC = train.y_MC.astype(np.float64)
    sums_FC, total_F = np.asarray(x_MF.T @ y_MC), np.asarray(x_MF.sum(axis=0)).ravel()
    order_FC = largest_mean_differences(sums_FC, y_MC.sum(axis=0), total_F, len(y_MC))
    answers = []
    for c in range(y_MC.shape[1]):
        chosen = order_FC[:k, c]
        probe = fit_probe(columns_of(x_MF, chosen), train.y_MC[:, [c]])
        answers.append(probe.predict(columns_of(test_MF, chosen))[:, 0])
    return np.stack(answers, axis=1)


def dense_answers(train: Labelled, test: Labelled) -> Bools:
    """The same for probes on all raw activations: what can be found."""
    return fit_probe(train.pooled.raw_MD, train.y_MC).predict(test.pooled.raw_MD)


def accuracy(answers_MC: Bools, y_MC: Bools) -> float:
    """Mean over classes of the balanced accuracy."""
    scores = [balanced_accuracy(answers_MC[:, c], y_MC[:, c]) for c in range(y_MC.shape[1])]
    return float(np.mean(scores))


def accuracy_interval(answers_MC: Bools, y_MC: Bools) -> Interval:
    """Its interval over documents."""
    return document_interval(lambda draws_RM: drawn_accuracy(answers_MC, y_MC, draws_RM), len(y_MC))


def drawn_accuracy(answers_MC: Bools, y_MC: Bools, draws_RM: Floats) -> Floats:
    """The accuracy in each replicate; one without documents of a class leaves it out of its mean: (R,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        yes_RC = (draws_RM @ (answers_MC & y_MC)) / (draws_RM @ y_MC)
        no_RC = (draws_RM @ (~answers_MC & ~y_MC)) / (draws_RM @ ~y_MC)
    both_RC = (yes_RC + no_RC) / 2
    known_RC = np.isfinite(both_RC)
    total_R = np.where(known_RC, both_RC, 0.0).sum(axis=1)
    n_R = known_RC.sum(axis=1)
    mean_R: Floats = np.where(n_R > 0, total_R / np.maximum(n_R, 1), np.nan)
    return mean_R


def columns_of(x_MF: Any, chosen: NDArray[Any]) -> NDArray[np.float64]:
    columns = x_MF[:, chosen]
    return np.asarray(columns if isinstance(columns, np.ndarray) else columns.toarray(), np.float64)
