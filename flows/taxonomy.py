"""The page ``tasks/TAXONOMY.md``: every unit type, score and control, by what they are.

Run ``python -m flows.taxonomy`` after a change; a test compares the page with the registries and tables.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import tasks
from catalog.schemas import SILENT_BANDS, TABLES, Column, Negatives, UnitType
from catalog.schemas.spec import BOOL
from flows.registries import REGISTRIES
from tasks.autointerp.measures import Measure, Ranking, YesNo
from tasks.autointerp.prevalence import AtPrevalence
from tasks.autointerp.scorer import SCORERS
from tasks.autointerp.tracking import Tracking
from tasks.common.registry import Registry
from tasks.dictionaries.base import ARCHITECTURES

PAGE = Path(tasks.__file__ or "").with_name("TAXONOMY.md")
WIDTH = 110
UNITS: dict[UnitType, str] = {
    "latent": "a unit of a trained dictionary",
    "neuron": "one sign of a coordinate of the model itself",
    "factor": "a component of a factorisation",
    "direction": "a direction that was fitted or drawn, with its sign",
}
SCORES: dict[str, str] = {
    "explainer": "Who says what a feature responds to",
    "scorer": "How well an explanation predicts where a feature fires",
    "matcher": "How alike two features of two dictionaries are",
    "suite": "How good a dictionary is",
}
"""Kinds of the registries that measure or explain."""
MEASURES: dict[str, type[Measure]] = {
    "Answers yes or no are scored by": YesNo,
    "Numbers that put the contexts in order (such as probabilities of yes) are scored by": Ranking,
    "At a prevalence near that of text they are also scored by": AtPrevalence,
    "Predicted activations are scored by": Tracking,
}
FEATURE_COLUMNS = frozenset({"feature_index", "feature_a"})
"""Keys of tables about features."""
_CONTROL = re.compile(r"(^|_)(null|chance|control|floor)(_|$)")


def page() -> str:
    """The text of the page."""
    return "\n\n".join([_INTRODUCTION, *_units(), *_scores(), *_controls()]) + "\n"


def _units() -> Iterator[str]:
    yield "## Units"
    yield _wrapped(
        "A feature of the catalogue is one unit of a dictionary. `dictionaries.unit_type` says which kind."
    )
    for unit, words in UNITS.items():
        yield f"### {unit}\n\n{_wrapped(words.capitalize() + '.')}"
        yield _list(ARCHITECTURES, (n for n in ARCHITECTURES if ARCHITECTURES[n].unit_type == unit))


def _scores() -> Iterator[str]:
    yield "## Scores"
    for registry in REGISTRIES:
        if registry.kind in SCORES:
            yield f"### {SCORES[registry.kind]}: {registry.kind}s"
            yield _list(registry, registry)
        if registry is SCORERS:
            for words, measure in MEASURES.items():
                yield _wrapped(f"{words} {_code(measure.metrics)}, each with a chance level.")
    yield "### Flags and verdicts"
    yield "\n".join(_item(f"{table}.{c.name}", _flag(c)) for table, c in flags())


def _controls() -> Iterator[str]:
    yield "## Controls"
    yield _wrapped("A control is the same measurement on something without the property.")
    yield "### Dictionaries as controls"
    yield _list(ARCHITECTURES, (n for n in ARCHITECTURES if ARCHITECTURES[n].Config.is_control))
    yield "### Models as controls"
    yield _item("source: reinitialised", "another model with every weight redrawn.")
    yield "### Contexts as controls"
    yield _wrapped(
        f"Bands of `examples` in which the feature is silent: {_code(SILENT_BANDS)}. Scores are stored "
        f"against each kind of negatives: {_code(get_args(Negatives))}."
    )
    yield "### Columns that hold a control or a null"
    yield "\n".join(_item(f"{table}.{c.name}", f"{c.description}.") for table, c in controls())


def flags() -> Iterator[tuple[str, Column]]:
    """Table and column of every enumeration and flag of a feature or of two features."""
    for table in TABLES.values():
        if FEATURE_COLUMNS.intersection(table.key):
            yield from (
                (table.name, column) for column in table.columns if column.values or column.type == BOOL
            )


def _flag(column: Column) -> str:
    values = f"{_code(column.values)}. " if column.values else ""
    return f"{values}{column.description}."


def controls() -> Iterator[tuple[str, Column]]:
    """Table and column of every stored control, null, chance level and floor."""
    for table in TABLES.values():
        yield from ((table.name, column) for column in table.columns if _CONTROL.search(column.name))


def _list(registry: Registry[Any], names: Iterable[str]) -> str:
    return "\n".join(_item(name, f"{registry.purpose(name)}.") for name in names)


def _item(name: str, words: str) -> str:
    return _wrapped(f"- `{name}`: {words}", "  ")


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _wrapped(words: str, indent: str = "") -> str:
    return textwrap.fill(
        words, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


_INTRODUCTION = """# Taxonomy: what there is to look at, to score and to compare with

Generated from the registries and tables by `python -m flows.taxonomy`. `featlas kinds` prints the registries
with what installed packages add. The [glossary](README.md) defines the words."""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
