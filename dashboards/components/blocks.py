"""The parts of a page: headings, key figures, facts, tables, notices."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.ids import alias_of
from dashboards import figures
from dashboards.components import definitions
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import label_words, token_label, visible

SHARES_SHOWN = 12
CHIP_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure: its name, its value as text, and its definition as a tooltip."""

    name: str
    value: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; ``number`` aligns right, ``wide`` hides it on narrow screens.

    The head links to ``href``; ``sorted`` says whether rows are ``ascending`` or ``descending`` by the
    column.
    """

    name: str
    help: str = ""
    number: bool = False
    wide: bool = False
    href: str | None = None
    sorted: str | None = None

    @property
    def classes(self) -> str:
        """The classes of its cells."""
        return " ".join(name for name, on in (("number", self.number), ("wide", self.wide)) if on)


def run_name(run: Mapping[str, Any]) -> str:
    """The name of a run in a sentence: its pipeline, and the flow unless it is nightly."""
    if run["pipeline"] is None or run["flow"] == "nightly":
        return str(run["pipeline"] or run["flow"])
    return f"{run['flow']} of {run['pipeline']}"


def heading(title: str, note: str = "") -> Element:
    """Heading of a section with a muted note next to it."""
    return el(
        "div", el("h2", title), el("span", note, cls="quiet small") if note else None, cls="row section"
    )


def section(title: str, *parts: Node | None, note: str = "") -> Element:
    """A section of a page under its heading."""
    return el("section", heading(title, note), *parts, cls="block stack")


def quiet(words: str) -> Element:
    """A sentence in place of an empty list."""
    return el("p", words, cls="quiet")


def key_figures(items: Iterable[Figure], *, compact: bool = False) -> Element:
    """Figures next to each other, name below value."""
    parts = [el("div", el("dt", term(f.name, f.help)), el("dd", f.value)) for f in items]
    return el("dl", *parts, cls="figures compact" if compact else "figures")


def facts(pairs: Iterable[tuple[Node, Node]]) -> Element:
    """Names and values below each other, for provenance; a name may be a term."""
    children: list[Node] = []
    for name, value in pairs:
        children += [el("dt", name), el("dd", value)]
    return el("dl", *children, cls="facts")


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[Node]], *, name: str, fold: bool = False
) -> Element:
    """A table with a name for screen readers; ``fold`` turns its rows into blocks on a narrow screen."""
    head = [el("th", *_head(c), cls=c.classes, scope="col", aria_sort=c.sorted) for c in columns]
    body = [
        el("tr", *(_cell(column, cell) for column, cell in zip(columns, row, strict=True))) for row in rows
    ]
    drawn = el(
        "table", el("thead", el("tr", *head)), el("tbody", *body), cls="fold" if fold else "", aria_label=name
    )
    return drawn if fold else el("div", drawn, cls="scroll", role="region", aria_label=name, tabindex=0)


def term(name: Node, help: str, cls: str = "define") -> Node:
    """A name or value with a definition, which mouse, touch and keyboard can open."""
    return el("button", name, cls=cls, title=help) if help else name


def dictionary_term(dictionary: str) -> Node:
    """A short name of a dictionary that opens to its full name."""
    return term(short_dictionary(dictionary), dictionary)


def _mark(name: str, help: str) -> Element:
    """A question mark that explains ``name``."""
    return el("button", "?", cls="define mark", title=help, aria_label=f"What is {name}?")


def _head(column: Column) -> list[Node]:
    if column.href is None:
        return [term(column.name, column.help)]
    arrow = {"ascending": " ↑", "descending": " ↓"}.get(column.sorted or "", "")
    link = el("a", column.name + arrow, href=column.href, title=f"Sort by {column.name}")
    if not column.help:
        return [link]
    return [link, " ", _mark(column.name, column.help)]


def _cell(column: Column, content: Node) -> Element:
    return el("td", content, cls=column.classes, data_name=column.name if column.number else None)


def notice(message: str, *more: Node | None, bad: bool = False) -> Element:
    """A framed sentence: what is the case and what to do."""
    return el("div", el("p", visible(message)), *more, cls="notice bad" if bad else "notice")


def short_dictionary(dictionary: str) -> str:
    """A short name of a dictionary: model, layer and name, without the digits that make it unique."""
    parts = alias_of(dictionary).split("/")
    return " ".join(part.removeprefix("blocks.") for part in parts) if len(parts) > 1 else dictionary


def badge(words: str, *, strong: bool = False, bad: bool = False, cls: str = "") -> Element:
    """A word in a rounded frame."""
    return el("span", words, cls=f"badge {'bad' if bad else 'strong' if strong else cls}".rstrip())


def chips(tokens: Iterable[str]) -> Element:
    """Tokens in small frames, hidden characters visible."""
    return el("span", *(_chip(token) for token in tokens))


def _chip(token: str) -> Element:
    """A token in a small frame; a token that is too long can be opened."""
    label = token_label(token)
    if len(label) <= CHIP_CHARACTERS:
        return el("span", label, cls="chip")
    return el("button", label, cls="chip define", title=label)


def share_chips(shares: Sequence[Mapping[str, Any]] | None) -> Element | None:
    """Tokens of a label in small frames, each with its share of the activation mass."""
    if not shares:
        return None
    parts = [
        el(
            "span",
            _chip(share["token"]),
            el("span", figures.percent(share["share"], 2), cls="quiet small"),
            cls="share",
        )
        for share in shares[:SHARES_SHOWN]
    ]
    return el("div", *parts, _mark("the share of a token", definitions.TOKEN_SHARES), cls="row")


def highlighted(value: str, words: Sequence[str]) -> Element:
    """A label with the search words marked."""
    shown = label_words(value)
    if not words:
        return el("span", shown, cls="isolate")
    pattern = re.compile("(" + "|".join(re.escape(word) for word in words) + ")", re.IGNORECASE)
    parts = [el("mark", part) if position % 2 else part for position, part in enumerate(pattern.split(shown))]
    return el("span", *(part for part in parts if part != ""), cls="isolate")


def verdict_words(verdict: str) -> str:
    """The matching verdict of a pair: mutual best partners may still be too different."""
    return "no clear match" if verdict == "unmatched" else verdict


def label_text(label: str | None) -> Element:
    """A label in a table; a muted word if there is none."""
    return el("span", label_words(label), cls="isolate") if label else el("span", "no label", cls="quiet")


def label_line(label: str | None) -> Element:
    """A label as the headline of its feature."""
    if label is None:
        return el("p", "No label yet", cls="lead quiet")
    return el("p", label_words(label), cls="lead isolate")
