"""The data of one dictionary: how it was made, its measures, how its import was checked."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions, measures
from dashboards.components.blocks import Column, badge, dictionary_term, facts, section, table, term
from dashboards.components.charts import Bar, bars
from dashboards.components.kept_parts import kept_curves
from dashboards.components.markup import Element, Node, el
from dashboards.components.measures import Line
from dashboards.components.method_parts import reads_and_writes
from dashboards.components.text_marks import visible

Row = Mapping[str, Any]
SPARSITY = ("k", "target_l0", "l0_coefficient", "l1_coefficient", "highest_frequency", "label", "objective")
TRAINING = ("n_tokens", "batch_tokens", "lr", "seed")
READINGS_SHOWN = 8
COLUMNS = (
    Column("measure"),
    Column("value", number=True),
    Column("controls", "The same measure of controls with the same width or the same sparsity."),
    Column("counted on", "Number of tokens, documents or features measured.", number=True, wide=True),
)
READING_COLUMNS = (
    Column("read"),
    Column("FVU", definitions.FVU_ALONE, number=True),
    Column("L0", definitions.L0, number=True),
)
PAIR_COLUMNS = (Column("measure"), Column("first", number=True), Column("second", number=True))


def summary(row: Row) -> str:
    """A dictionary in one line, which opens to all of its data."""
    said = [method_words(row), f"{figures.count(row['d_sae'])} features"]
    said += [f"FVU {figures.significant(row['fvu'])}{_floors(row)}"] if row["fvu"] is not None else []
    said += [f"L0 {figures.significant(row['l0'])}"] if row["l0"] is not None else []
    said += [] if row["verified"] else ["unverified"]
    return ", ".join(said)


def _floors(row: Row) -> str:
    """FVU of the controls and of the floors, in brackets."""
    controls = json.loads(row["fvu_control"]) if row["fvu_control"] else {}
    known = {"PCA": controls.get("pca"), "random": controls.get("random")}
    known |= {"frozen decoder": row["fvu_frozen_decoder"], "random weights": row["fvu_random_model"]}
    said = [f"{name} {figures.significant(value)}" for name, value in known.items() if value is not None]
    return f" ({', '.join(said)})" if said else ""


def method_words(row: Row) -> str:
    """Method and, unless it was trained here, origin."""
    name = str(row["architecture"]).replace("_", " ")
    return name if row["origin"] == "trained" else f"{name} ({row['origin']})"


def about(row: Row, metrics: Sequence[Row]) -> Iterator[Element]:
    """All data of one dictionary; ``row`` of the page query ``dictionaries``, ``metrics`` its own."""
    yield provenance(row)
    if row["origin"] == "imported":
        yield certificate(row, metrics)
    shown = (
        ("Reconstruction and sparsity", measures.lines(metrics, measures.CORE)),
        ("Suites", measures.lines(metrics, measures.SUITES)),
        ("Further measures", measures.further(metrics)),
    )
    for title, found in shown:
        drawn = [_cells(line) for line in measures.together(found)]
        if drawn:
            body = table(COLUMNS, drawn, name=title, fold=True)
            yield el("div", el("h3", title), body, cls="stack block measures")
    yield from kept_curves(metrics)
    if spectrum := [metric for metric in metrics if metric["metric"] == measures.SPECTRUM]:
        yield density_spectrum(spectrum)


def provenance(row: Row) -> Element:
    """How it was made."""
    config = json.loads(row["config"])
    imported = config.get("imported")
    names = SPARSITY if imported else (*SPARSITY, *TRAINING)
    settings = [f"{name} = {_setting(config[name])}" for name in names if config.get(name) is not None]
    origin = f"imported, format {imported['format']}" if imported else row["origin"]
    marks: list[Node] = [el("span", origin)]
    if not row["verified"]:
        marks += [" ", badge("unverified", bad=True)]
    pairs: list[tuple[Node, Node]] = [
        ("method", str(row["architecture"]).replace("_", " ")),
        ("features", f"{figures.count(row['d_sae'])} of type {row['unit_type']}"),
        *reads_and_writes(row),
        ("settings", ", ".join(settings) or figures.MISSING),
        ("origin", el("span", *marks)),
        *_parent(row),
        ("made", figures.moment(row["created_at"])),
        ("activation set", el("code", row["activation_set_id"])),
        ("id", el("code", row["dictionary_id"])),
    ]
    return el("div", facts(pairs), cls="block")


def _parent(row: Row) -> list[tuple[Node, Node]]:
    """The dictionary whose weights the training started from, if there was one."""
    parent = row["parent_dictionary_id"]
    if parent is None:
        return []
    href = links.page("browse", dictionary=parent)
    return [
        (term("started from", definitions.STARTED_FROM), el("a", el("code", parent), href=href, cls="inline"))
    ]


def _setting(value: Any) -> str:
    return figures.count(value) if isinstance(value, int) else str(value)


def _cells(line: Line) -> tuple[Node, ...]:
    return (
        term(line.name, line.help),
        line.value,
        el("span", visible(line.beside), cls="quiet small"),
        figures.count(line.n) if line.n else "",
    )


def certificate(row: Row, metrics: Sequence[Row]) -> Element:
    """The measurements of the import gate, and those of other ways to read the same file."""
    own = {
        m["metric"]: m for m in metrics if m["metric"].startswith(measures.CERTIFICATE) and not m["variant"]
    }
    if "import_fvu" not in own:
        return el("p", "There is no import certificate for this dictionary.", cls="quiet block")
    fvu = own["import_fvu"]
    verdict = "verified" if row["verified"] else "unverified"
    why = fvu["note"] or "it fits this model"
    control = measures.beside_value(fvu, measures.CORE[0])
    unseen = figures.percent(own["import_unseen_share"]["value"]) if "import_unseen_share" in own else ""
    said = f"{figures.count(fvu['n'])} tokens" + (f", {unseen} of features silent on them" if unseen else "")
    said += f", FVU of a {control}" if control else ""
    l0 = own.get("import_l0", {}).get("value")
    asked = ("as it was imported", figures.significant(fvu["value"]), figures.significant(l0))
    tried = [m for m in metrics if m["metric"] == "import_fvu" and m["variant"]]
    tried.sort(key=lambda m: (m["value"] is None, m["value"]))
    others = [(_reading(m), figures.significant(m["value"]), _l0_of(m["note"])) for m in tried]
    return el(
        "div",
        el("h3", "Import certificate"),
        el(
            "div",
            badge(verdict, strong=row["verified"], bad=not row["verified"]),
            el("span", visible(why)),
            cls="row",
        ),
        el("span", said, cls="quiet small"),
        table(READING_COLUMNS, [asked, *others[:READINGS_SHOWN]], name="Ways to read the file"),
        cls="stack block measures",
    )


def _reading(metric: Row) -> Node:
    setting, _, value = metric["variant"].partition("=")
    if setting == "hookpoint":
        return el("span", "at ", el("code", visible(value)), cls="quiet")
    return el("span", "with ", el("code", visible(metric["variant"])), cls="quiet")


def _l0_of(note: str | None) -> str:
    found = re.search(r"L0 ([\d.e+-]+)", note or "")
    return figures.significant(float(found[1])) if found else ""


def density_spectrum(rows: Sequence[Row]) -> Element:
    """Share of the features in every half decade of density, from the lowest that occurs."""
    title = el("h3", term("How often features fire", definitions.DENSITY))
    (never, *bins) = sorted(rows, key=_edge)
    if not bins:
        return el(
            "div", title, el("span", visible(never["note"] or ""), cls="quiet small"), cls="stack block"
        )
    first = next((place for place, row in enumerate(bins) if row["value"]), 0)
    drawn = [
        Bar(_bin_name(row["variant"]), row["value"] or 0.0, figures.percent(row["value"], 2))
        for row in (never, *bins[first:])
    ]
    return el("div", title, bars(drawn), cls="stack block measures")


def _edge(row: Row) -> float:
    return float(row["variant"].removeprefix("log10 ")) if row["variant"] != "unseen" else -99.0


def _bin_name(variant: str) -> str:
    if variant == "unseen":
        return "never"
    low = float(variant.removeprefix("log10 "))
    return f"{figures.percent(10**low, 2)} to {figures.percent(10 ** (low + 0.5), 2)}"


def quality(first: Row, second: Row, metrics: Sequence[Row]) -> Element:
    """The measures of two dictionaries next to each other, each on its own activation set."""
    sides = []
    for row in (first, second):
        own = [metric for metric in metrics if metric["dictionary_id"] == row["dictionary_id"]]
        found = (*measures.lines(own, measures.CORE), *measures.lines(own, measures.SUITES))
        sides.append({line.key: line for line in found})
    cells = []
    for key in dict.fromkeys((*sides[0], *sides[1])):
        line = sides[0].get(key) or sides[1][key]
        values = [_with_controls(side.get(key)) for side in sides]
        cells.append((term(line.name, line.help), *values))
    named = [
        el(
            "div",
            el("h3", dictionary_term(row["dictionary_id"])),
            el("span", summary(row), cls="quiet small"),
            cls="stack",
        )
        for row in (first, second)
    ]
    body = table(PAIR_COLUMNS, cells, name="Measures of both") if cells else None
    return section(
        "Quality",
        el("div", *named, cls="pair"),
        el("div", body, cls="measures"),
        note="each on its own activation set",
    )


def _with_controls(line: Line | None) -> Node:
    return figures.MISSING if line is None else term(line.value, visible(line.beside))
