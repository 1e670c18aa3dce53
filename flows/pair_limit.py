"""Refuses globs that give far more pairs to match than intended, before a scheduler starts."""

from collections.abc import Mapping
from pathlib import Path

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from flows.config import PipelineConfig
from flows.members import used_dictionaries
from flows.pair_rules import chosen_pairs
from tasks.dictionaries.config import DictionaryConfig
from tasks.matching.matcher import MatcherConfig
from tasks.support.catalogued import find_dictionaries, without_controls

MOST_PAIRS = 1_000
"""More pairs than a person means when they write a glob."""


def named_others(matcher: MatcherConfig, root: Path) -> list[StageOutcome]:
    """The dictionaries of the catalogue that ``with`` names, without controls.

    Raises:
        UserError: for a pattern that finds nothing.
    """
    return without_controls(root, find_dictionaries(root, matcher.with_)) if matcher.with_ else []


def check_pairs(config: PipelineConfig, root: Path, *, yes: bool = False) -> None:
    """Refuse patterns of ``use`` and ``with`` that find nothing, or that find more than a person means.

    Args:
        config: The pipeline.
        root: The catalogue.
        yes: Whether the user agrees to any number of pairs.

    Raises:
        UserError: one sentence for the first pattern that finds nothing, or for more than 1,000 pairs.
    """
    used = [one for one in used_dictionaries(config, root) if not one.config.is_control]
    patterns = ", ".join(repr(entry.use) for entry in config.used)
    for matcher in config.match:
        n_pairs = len(chosen_pairs(used, matcher.pairs))
        check_number(n_pairs, f"use {patterns} with {matcher.matcher}", yes=yes)
    check_with(config, root, _n_planned(config) + len(used), yes=yes)


def check_with(config: PipelineConfig, root: Path, n_here: int = 1, *, yes: bool = False) -> None:
    """As ``check_pairs``, for ``n_here`` dictionaries that are compared with those that ``with`` names."""
    for matcher in config.match:
        if matcher.with_:
            patterns = ", ".join(map(repr, matcher.with_))
            n_pairs = n_here * len(named_others(matcher, root))
            check_number(n_pairs, f"with {patterns} of {matcher.matcher}", yes=yes)


def check_number(n_pairs: int, what: str, *, yes: bool) -> None:
    """Refuse more pairs than a person means, unless they agreed.

    Raises:
        UserError: one sentence with the number of pairs.
    """
    if n_pairs > MOST_PAIRS and not yes:
        raise UserError(
            f"there are up to {n_pairs:,} pairs of dictionaries to match by {what}, more than "
            f"{MOST_PAIRS:,}: narrow the patterns down, or pass --yes (the parameter yes of a flow)"
        )


def _n_planned(config: PipelineConfig) -> int:
    """At most how many dictionaries the pipeline trains that are no controls."""
    cached = {model.id: set(config.activations.for_model(model).hookpoints) for model in config.models}
    return sum(_n_hookpoints(one, cached) for one in config.trained if not one.is_control)


def _n_hookpoints(dictionary: DictionaryConfig, cached: Mapping[str, set[str]]) -> int:
    if dictionary.models is not None:
        return 1
    found = [hookpoints for model, hookpoints in cached.items() if dictionary.trains_on(model)]
    if dictionary.reads is None:
        return sum(map(len, found))
    return sum(hookpoints >= set(dictionary.hookpoints) for hookpoints in found)
