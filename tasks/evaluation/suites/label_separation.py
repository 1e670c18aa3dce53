"""How far the classes of a document label lie apart in latent space.

The codes of a document are averaged over its tokens. The measure is the mean silhouette of the eval documents
(Rousseeuw 1987) with cosine distance between these means: (b - a) / max(a, b), where a is the mean distance
to the other documents of the class and b that to the nearest other class. 1 is far apart. The null gives the
same labels to the documents in random order; it is 0 or below, because the nearest of several classes is near
by chance.

Shapes: M documents, F features, C classes.
"""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.common.bootstrap import mean_interval
from tasks.common.progress import ProgressListener, silent
from tasks.evaluation.documents import pool_documents
from tasks.evaluation.label_documents import LabelConfig, Labelled, check_label, labelled_eval
from tasks.evaluation.probe import Bools, Floats
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite
from tasks.evaluation.tokens import fit_controls

METRIC = "label_separation"


class LabelSeparationConfig(LabelConfig):
    """Silhouette of the classes of a label column of the corpus."""

    suite: Literal["label_separation"] = "label_separation"
    max_documents: int = Field(default=2_000, ge=10)
    """Eval documents to compare with each other, drawn at random if there are more."""
    n_shuffles: int = Field(default=199, ge=19)
    """Number of shuffles of the labels: the smallest p is one over one more."""


@SUITES.register("label_separation")
class LabelSeparation(Suite):
    """Mean silhouette of the eval documents."""

    purpose = "measures how far the classes of a document label lie apart in latent space"
    reads: ClassVar[frozenset[str]] = frozenset({"labels"})
    config: LabelSeparationConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((METRIC, self.config.label),)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        config = self.config
        check_label(config, subject)
        controls = fit_controls(subject.dictionary, subject.activations, config.seed, listener)
        dictionaries = {"own": subject.dictionary, "random": controls.random}
        pooled = pool_documents(
            subject.activations, "eval", config.max_tokens, dictionaries, config.min_tokens, listener
        )
        documents = self._some(labelled_eval(config, pooled, subject))
        y_MC, random = documents.y_MC, np.random.default_rng((config.seed, 1))
        distance_MM = cosine_distances(documents.pooled.codes["own"].toarray())
        values_M = silhouettes(distance_MM, y_MC)
        value = float(values_M.mean())
        shuffled = [
            float(silhouettes(distance_MM, y_MC[random.permutation(len(y_MC))]).mean())
            for _ in range(config.n_shuffles)
        ]
        p = (1 + sum(one >= value for one in shuffled)) / (1 + len(shuffled))
        others = {
            "raw": documents.pooled.raw_MD - documents.pooled.raw_MD.mean(axis=0),
            "random": documents.pooled.codes["random"].toarray(),
        }
        control = {
            name: float(silhouettes(cosine_distances(x_MF), y_MC).mean()) for name, x_MF in others.items()
        }
        control["shuffled"] = float(np.mean(shuffled))
        note = f"{y_MC.shape[1]} classes, p = {p:.2g} of {config.n_shuffles} shuffles"
        interval = mean_interval(values_M)
        return [Metric(METRIC, config.label, value, len(y_MC), control, note, interval=interval)]

    def _some(self, documents: Labelled) -> Labelled:
        """At most ``max_documents`` of the documents."""
        n = len(documents.y_MC)
        if n <= self.config.max_documents:
            return documents
        keep_M = np.zeros(n, dtype=bool)
        keep_M[np.random.default_rng(self.config.seed).choice(n, self.config.max_documents, False)] = True
        return Labelled(documents.pooled.take(keep_M), documents.y_MC[keep_M])


def cosine_distances(x_MF: Floats) -> NDArray[np.float64]:
    """One minus the cosine of every two rows: (M, M). A row of zeros has distance 1 to all others."""
    x = np.asarray(x_MF, np.float64)
    unit_MF = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    distance_MM: NDArray[np.float64] = 1 - unit_MF @ unit_MF.T
    np.fill_diagonal(distance_MM, 0)
    return distance_MM


def silhouettes(distance_MM: Floats, y_MC: Bools) -> NDArray[np.float64]:
    """The silhouette of each document: (M,); 0 for one that is alone in its class."""
    size_C: Any = y_MC.sum(axis=0)
    total_MC = distance_MM @ y_MC.astype(np.float64)
    own_M = y_MC.argmax(axis=1)
    row_M = np.arange(len(own_M))
    within_M = total_MC[row_M, own_M] / np.maximum(size_C[own_M] - 1, 1)
    mean_MC = total_MC / size_C
    mean_MC[row_M, own_M] = np.inf
    between_M = mean_MC.min(axis=1)
    largest_M = np.maximum(np.maximum(within_M, between_M), 1e-300)
    is_alone_M = size_C[own_M] == 1
    values_M: NDArray[np.float64] = np.where(is_alone_M, 0.0, (between_M - within_M) / largest_M)
    return values_M
