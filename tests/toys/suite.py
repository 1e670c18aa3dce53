"""The smallest suite: the mean norm of the directions."""

from typing import Literal

from tasks.common.progress import ProgressListener, silent
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig


class ToySuiteConfig(SuiteConfig):
    """No setting of its own."""

    suite: Literal["toy_suite"] = "toy_suite"


@SUITES.register("toy_suite")
class ToySuite(Suite):
    """Reads the weights alone."""

    config: ToySuiteConfig
    purpose = "measures the mean norm of the directions"

    def headline(self) -> tuple[tuple[str, str], ...]:
        return (("toy_norm", ""),)

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        norm = float(subject.dictionary.W_dec.norm(dim=1).mean())
        return [Metric("toy_norm", "", norm, subject.dictionary.d_sae, {"unit": 1.0})]
