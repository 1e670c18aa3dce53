"""Checks the dictionaries that trainings of a pipeline start from (``init_from``), before anything runs."""

from collections.abc import Iterator
from pathlib import Path

from flows.config import PipelineConfig
from tasks.dictionaries.config import DictionaryConfig
from tasks.support.lineage import Hooks, find_parent


def check_starts(config: PipelineConfig, root: Path) -> None:
    """Look for what every training of a pipeline starts from, at each of its hookpoints.

    Raises:
        UserError: one sentence for the first one that is not there or is no start.
    """
    for dictionary in config.trained:
        if dictionary.starts_from is not None:
            for reads, writes in _hookpoints(config, dictionary):
                find_parent(root, dictionary, reads, writes)


def _hookpoints(config: PipelineConfig, dictionary: DictionaryConfig) -> Iterator[tuple[Hooks, Hooks]]:
    """Where the pipeline trains a dictionary: the hookpoints that it reads and writes."""
    if dictionary.models is not None:
        both = [(model, hookpoint) for model in dictionary.models for hookpoint in dictionary.reads or ()]
        yield both, both
        return
    for model in config.models:
        if not dictionary.trains_on(model.id):
            continue
        cached = config.activations.for_model(model).hookpoints
        named = [dictionary.reads] if dictionary.reads is not None else [(name,) for name in cached]
        for reads in named:
            writes = dictionary.writes or reads
            if set(cached) >= {*reads, *writes}:
                yield [(model.id, name) for name in reads], [(model.id, name) for name in writes]
