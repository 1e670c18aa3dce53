"""Every kind of thing that one new file adds, with the registry that finds it."""

from typing import Any

from tasks.activations.corpora.source import CORPUS_SOURCES
from tasks.autointerp.explainer import EXPLAINERS
from tasks.autointerp.scorer import SCORERS
from tasks.common.registry import Registry
from tasks.dictionaries.base import ARCHITECTURES
from tasks.evaluation.suite import SUITES
from tasks.foreign.format import FORMATS
from tasks.matching.matcher import MATCHERS

REGISTRIES: tuple[Registry[Any], ...] = (
    CORPUS_SOURCES,
    ARCHITECTURES,
    EXPLAINERS,
    SCORERS,
    MATCHERS,
    SUITES,
    FORMATS,
)
