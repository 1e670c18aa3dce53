"""How well labelled features predict a document label, relative to all activations.

A probe on the m features that differ most between the classes, among those whose explanation beats chance,
is compared with a probe on all raw activations: the ratio of their balanced accuracies on eval documents, for
growing m, and the area under this curve. It is the interpretable share of a representation, with features
that people can read as the components.

Two things bring the ratio near 1 without any meaning: a weak raw probe, and many features. Controls are
therefore m features at random, the m best of all features with or without a label, and shuffled labels.

Shapes: M documents, C classes, R replicates.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from catalog.schemas import Split
from tasks.common.bootstrap import Floats, document_interval
from tasks.common.progress import ProgressListener, silent, track
from tasks.evaluation.documents import pool_documents
from tasks.evaluation.label_documents import (
    LabelConfig,
    Labelled,
    accuracy,
    check_label,
    dense_answers,
    drawn_accuracy,
    labelled,
    refuse_hopeless,
    sparse_answers,
)
from tasks.evaluation.probe import Bools
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, Unmeasurable

KEPT, AREA = "accuracy_kept", "accuracy_kept_area"


class LabelledLatentsConfig(LabelConfig):
    """Probes with labelled features for a label column of the corpus."""

    suite: Literal["labelled_latents"] = "labelled_latents"
    m: tuple[int, ...] = Field(default=(1, 2, 4, 8, 16, 32), min_length=2)
    """Numbers of labelled features that a probe may use, ascending."""
    n_draws: int = Field(default=5, ge=1)
    """Draws of random features, and shuffles of the train labels, over which the controls are averaged."""


@SUITES.register("labelled_latents")
class LabelledLatents(Suite):
    """Ratio of balanced accuracies on eval documents, mean over classes."""

    purpose = "compares probes on labelled features with probes on all activations"
    reads: ClassVar[frozenset[str]] = frozenset({"labels", "labelled"})
    config: LabelledLatentsConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((AREA, self.config.label),)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        config = self.config
        check_label(config, subject)
        refuse_hopeless(config, subject)
        own_F = np.array(sorted(subject.labelled), dtype=np.int64)
        if len(own_F) < config.m[0]:
            raise Unmeasurable(
                f"{len(own_F)} features have a label that beats chance: explain and score them first"
            )
        dictionaries = {"own": subject.dictionary}
        pooled = [
            pool_documents(
                subject.activations, split, config.max_tokens, dictionaries, config.min_tokens, listener
            )
            for split in get_args(Split)
        ]
        train, test = labelled(config, pooled[0], pooled[1], subject)
        sizes = [m for m in config.m if m <= len(own_F)]
        raw_MC = dense_answers(train, test)
        raw = accuracy(raw_MC, test.y_MC)
        answers = [sparse_answers(train, test, "own", m, own_F) for m in sizes]
        controls = [
            self._controls(train, test, own_F, m, raw) for m in track(sizes, "numbers of features", listener)
        ]
        note = f"{len(own_F)} labelled features, raw accuracy {raw:.3f}"
        metrics = [
            Metric(
                KEPT,
                f"{config.label}:m{m}",
                accuracy(found, test.y_MC) / raw,
                len(test.y_MC),
                control,
                note,
                interval=document_interval(partial(_ratio, found, raw_MC, test.y_MC), len(test.y_MC)),
            )
            for m, found, control in zip(sizes, answers, controls, strict=True)
        ]
        return [self._area(sizes, metrics, answers, raw_MC, test), *metrics]

    def _controls(
        self, train: Labelled, test: Labelled, own_F: NDArray[np.int64], m: int, raw: float
    ) -> dict[str, float]:
        """The same ratio where the features, or the labels, say nothing; and without the limit to labels."""
        random = np.random.default_rng((self.config.seed, m))
        counts = np.asarray((train.pooled.codes["own"] > 0).sum(axis=0)).ravel()
        alive_F = np.flatnonzero(counts)
        drawn, shuffled = [], []
        for _ in range(self.config.n_draws):
            some_F = random.choice(alive_F, min(m, len(alive_F)), replace=False)
            drawn.append(accuracy(sparse_answers(train, test, "own", m, some_F), test.y_MC))
            null = Labelled(train.pooled, train.y_MC[random.permutation(len(train.y_MC))])
            shuffled.append(accuracy(sparse_answers(null, test, "own", m, own_F), test.y_MC))
        every = accuracy(sparse_answers(train, test, "own", m), test.y_MC)
        return {
            "random_latents": float(np.mean(drawn)) / raw,
            "shuffled": float(np.mean(shuffled)) / raw,
            "all_latents": every / raw,
        }

    def _area(
        self,
        sizes: Sequence[int],
        metrics: Sequence[Metric],
        answers: Sequence[Bools],
        raw_MC: Bools,
        test: Labelled,
    ) -> Metric:
        """The mean of the curve over the logarithm of m, with the area under each control."""

        def drawn(draws_RM: Floats) -> Floats:
            curve_ZR = np.stack([_ratio(found, raw_MC, test.y_MC, draws_RM) for found in answers])
            return area(sizes, curve_ZR)

        curve_Z = np.array([one.value for one in metrics])
        names = metrics[0].control
        control = {
            name: float(area(sizes, np.array([one.control[name] for one in metrics]))) for name in names
        }
        n = len(test.y_MC)
        interval = document_interval(drawn, n)
        note = f"{metrics[0].note}, m {sizes[0]} to {sizes[-1]}"
        return Metric(
            AREA, self.config.label, float(area(sizes, curve_Z)), n, control, note, interval=interval
        )


def area(sizes: Sequence[int], curve_Z: Floats) -> Floats:
    """Area under a curve over log m, divided by its length: the mean if there is one point only."""
    at_Z = np.log2(np.asarray(sizes, np.float64))
    if len(at_Z) == 1:
        return np.asarray(curve_Z[0])
    result: Floats = np.trapezoid(curve_Z, at_Z, axis=0) / (at_Z[-1] - at_Z[0])
    return result


def _ratio(own_MC: Bools, raw_MC: Bools, y_MC: Bools, draws_RM: Floats) -> Floats:
    """The ratio in each replicate of the documents: (R,)."""
    raw_R = drawn_accuracy(raw_MC, y_MC, draws_RM)
    ratio_R: Floats = drawn_accuracy(own_MC, y_MC, draws_RM) / np.where(raw_R > 0, raw_R, np.nan)
    return ratio_R
