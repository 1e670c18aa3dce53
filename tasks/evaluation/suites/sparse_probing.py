"""How well a few latents predict a document label: k-sparse probes on pooled activations.

After Gurnee et al. 2023 (arXiv 2305.01610) and SAEBench (arXiv 2503.09532): the latents are averaged over the
tokens of a document, the k latents with the largest difference of class means are selected on the train
documents, and a logistic regression on them is tested on the eval documents, one class against the rest.
Intervals are over the eval documents, with fixed probes.

Shapes: M documents, F features, C classes, R replicates.
"""

from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from catalog.schemas import Split
from tasks.common.progress import ProgressListener, silent, track
from tasks.evaluation.documents import pool_documents
from tasks.evaluation.label_documents import (
    LabelConfig,
    Labelled,
    accuracy,
    accuracy_interval,
    check_label,
    dense_answers,
    labelled,
    refuse_hopeless,
    sparse_accuracy,
    sparse_answers,
)
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite
from tasks.evaluation.tokens import fit_controls

METRIC = "sparse_probe_accuracy"


class SparseProbingConfig(LabelConfig):
    """Probes with few latents for a label column of the corpus."""

    suite: Literal["sparse_probing"] = "sparse_probing"
    k: tuple[int, ...] = Field(default=(1, 2, 5, 20), min_length=1)
    """Numbers of latents that a probe may use."""
    n_shuffles: int = Field(default=5, ge=1)
    """Number of shuffles of the train labels over which the null is averaged."""


@SUITES.register("sparse_probing")
class SparseProbing(Suite):
    """Balanced accuracy on the eval documents, mean over classes; 0.5 is chance."""

    purpose = "probes for a document label with a few latents"
    reads: ClassVar[frozenset[str]] = frozenset({"labels"})
    config: SparseProbingConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return tuple((METRIC, self._variant(k)) for k in self.config.k)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        check_label(self.config, subject)
        refuse_hopeless(self.config, subject)
        controls = fit_controls(subject.dictionary, subject.activations, self.config.seed, listener)
        dictionaries = {"own": subject.dictionary, "random": controls.random}
        config = self.config
        limits = (config.max_tokens, dictionaries, config.min_tokens)
        pooled = [
            pool_documents(subject.activations, split, *limits, listener=listener)
            for split in get_args(Split)
        ]
        train, test = labelled(self.config, pooled[0], pooled[1], subject)
        random = np.random.default_rng(config.seed)
        orders = [random.permutation(len(train.y_MC)) for _ in range(config.n_shuffles)]
        nulls = [Labelled(train.pooled, train.y_MC[order]) for order in orders]
        raw_all = accuracy(dense_answers(train, test), test.y_MC)
        metrics = []
        for k in track(config.k, "numbers of latents probed", listener):
            control = {
                "raw": raw_all,
                "raw_k": sparse_accuracy(train, test, "raw", k),
                "random": sparse_accuracy(train, test, "random", k),
                "shuffled": float(np.mean([sparse_accuracy(null, test, "own", k) for null in nulls])),
            }
            answers_MC = sparse_answers(train, test, "own", k)
            value, interval = accuracy(answers_MC, test.y_MC), accuracy_interval(answers_MC, test.y_MC)
            metrics.append(
                Metric(METRIC, self._variant(k), value, len(test.y_MC), control, interval=interval)
            )
        return metrics

    def _variant(self, k: int) -> str:
        return f"{self.config.label}:k{k}"
