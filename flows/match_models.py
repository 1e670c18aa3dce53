"""Match the features of a pipeline's models, or of two lists of dictionaries of the catalogue."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.errors import UserError
from catalog.ids import digest
from catalog.settings import catalogue_root
from flows.config import PipelineConfig, load_pipeline
from flows.graph import named
from flows.match_forecast import tell_forecast
from flows.pair_limit import check_number
from flows.pairs import crossed_units
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.pipeline import run_pipeline
from flows.reports import started_run
from tasks.matching.matcher import MATCHERS, DictionaryPattern, MatcherConfig
from tasks.stages.match_features import match_features
from tasks.support.catalogued import find_dictionaries, without_controls
from tasks.support.match_units import MatchUnit, as_stored, is_comparable

FLOW = "match-models"
STAGES = named("match_features")
MatcherName = Annotated[str, Field(json_schema_extra={"enum": list(MATCHERS.names())})]


@flow(name=FLOW, flow_run_name=lambda: run_name("match"), persist_result=False)
def match_models(
    pipeline: PipelineName,
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006 (never changed; None would make the form offer two types)
    first: list[DictionaryPattern] = [],  # noqa: B006
    second: list[DictionaryPattern] = [],  # noqa: B006
    matchers: list[MatcherName] = [],  # noqa: B006
    yes: bool = False,
) -> dict[str, Any]:
    """Match a pipeline's dictionaries, or two lists of dictionaries of the catalogue with each other.

    Without lists it finds or computes what the matches of the pipeline need.

    Args:
        pipeline: Name of a pipeline that comes with featlas, or the path of a pipeline file
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Match again even if it is done
        overrides: Settings to change for this run, each as path=value: match.0.n_shifts=1000
        first: Aliases, ids or globs of the catalogue, like pico-a/*; each is matched with all of second
        second: Aliases, ids or globs to match the first list with; empty if that is empty
        matchers: Matchers for the lists, with the settings of the pipeline if it has them; empty for its own
        yes: Match even if lists or globs give more than 1,000 pairs
    """
    if not (first or second or matchers):
        return run_pipeline(FLOW, STAGES, pipeline, catalogue, force=force, overrides=overrides, yes=yes)
    config = load_pipeline(pipeline, overrides)
    chosen = _matchers(config, matchers)
    units = _units(chosen, catalogue, first, second, yes=yes)
    forced = frozenset(STAGES) if force else frozenset()
    described = digest([[matcher.matching() for matcher in chosen], first, second])
    with started_run(FLOW, config.name, catalogue, forced, described) as run:
        tell_forecast(run, chosen, units)
        for unit in units:
            with run.branch(f"match {unit.label}"):
                run.do(match_features, unit)
    return run.result()


def _matchers(config: PipelineConfig, names: list[str]) -> list[MatcherConfig]:
    """The matchers named, with the settings of the pipeline where it has them; its own if none is named."""
    configured = {matcher.matcher: matcher for matcher in config.match}
    known = ", ".join(MATCHERS.names())
    unknown = [name for name in names if name not in MATCHERS]
    if unknown:
        raise UserError(f"there is no matcher {unknown[0]!r}; known: {known}")
    if not names and not configured:
        raise UserError(f"pipeline {config.name!r} has no matcher: name some in matchers; known: {known}")
    return [
        configured[name] if name in configured else MATCHERS[name].Config(matcher=name)
        for name in dict.fromkeys(names or configured)
    ]


def _units(
    matchers: list[MatcherConfig], catalogue: str, first: list[str], second: list[str], *, yes: bool
) -> list[MatchUnit]:
    """Every pair of both lists that a matcher compares.

    Raises:
        UserError: when a list is missing, finds nothing or too much, or no matcher compares any pair.
    """
    if not (first and second):
        raise UserError("match-models needs two lists of dictionaries: fill first and second, or leave both")
    root = catalogue_root(catalogue or None)
    sides = [without_controls(root, find_dictionaries(root, patterns)) for patterns in (first, second)]
    pairs = crossed_units(matchers, *sides)
    check_number(len(pairs) // len(matchers), "the lists first and second", yes=yes)
    units = as_stored(root, [unit for unit in pairs if is_comparable(unit)])
    if not units:
        names = " and ".join(matcher.matcher for matcher in matchers)
        raise UserError(
            f"{names} can compare no pair of the two lists: see what a matcher compares with `featlas kinds "
            "matcher`, and train both on one corpus, because sets of `observe` are not matched"
        )
    return units
