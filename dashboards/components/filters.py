"""The fields of the browse and compare pages.

Each widget's key holds the value that the address asks for: a link or the back button makes a new widget
with the new value, so that page and address never disagree.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast, get_args

import streamlit as st

from catalog.schemas import FeatureStatus
from dashboards import figures, links
from dashboards.selection import DENSITIES, BrowseSelection, CompareSelection, Matched, Side, Sort

Row = Mapping[str, Any]
T = TypeVar("T")

ORDERS: Mapping[Sort, str] = {
    "score": "best score first",
    "density": "densest first",
    "rare": "rarest first",
    "activation": "largest activation first",
    "matches": "most matches first",
    "index": "by index",
}
STATUSES = ("any", *get_args(FeatureStatus))
MATCHED: tuple[Matched, ...] = get_args(Matched)
FOLDED = frozenset({"model", "status", "matched", "token", "density_low", "density_high", "score"})


def draw_filters(asked: BrowseSelection, known: Sequence[Row]) -> BrowseSelection:
    """The filters; what they hold now, with the page number that was asked for."""
    words, dictionary, order = st.columns([4, 3, 2])
    q = words.text_input(
        links.SEARCH_LABEL, asked.q, type="search", placeholder="words of a label", key=f"q={asked.q}"
    )
    picked = _pick(dictionary, "Dictionary", _names(known), option_for(asked.dictionary, known))
    sort = _pick(order, "Order", list(ORDERS), asked.sort)
    with st.expander("More filters", expanded=bool(asked.to_url().keys() & FOLDED)):
        first, second, third = st.columns(3)
        model = _pick(first, "Model", [None, *sorted({row["model_id"] for row in known})], asked.model)
        status = _segment(second, "Status", STATUSES, asked.status)
        matched = _segment(third, "Matched elsewhere", MATCHED, asked.matched)
        first, second, third = st.columns(3)
        token = first.text_input("Top token contains", asked.token, key=f"token={asked.token}")
        low, high = second.select_slider(
            "Density", DENSITIES, _steps(asked), format_func=figures.percent, key=f"density={_steps(asked)}"
        )
        score = third.slider(
            "Score interval begins at or above", 0.0, 1.0, asked.score, 0.05, key=f"score={asked.score}"
        )
    return BrowseSelection(
        q or "", token or "", model, picked, status, low, high, score, matched, sort, asked.page
    )


def draw_sides(asked: CompareSelection, known: Sequence[str]) -> CompareSelection:
    """Two fields for what is compared; by default the first two dictionaries.

    Raises:
        UserError: for a malformed side.
    """
    default = (*known[:2], "", "")
    fields = zip(st.columns(2), ("First", "Second"), (asked.a, asked.b), default[:2], strict=True)
    help = "A dictionary, or one of its features as DICTIONARY#FEATURE; aliases are fine."
    sides = []
    for place, label, side, otherwise in fields:
        value = side.text if side else otherwise
        typed = (place.text_input(label, value, key=f"{label}={value}", help=help) or "").strip()
        sides.append(Side.parse(typed) if typed else None)
    return CompareSelection(*sides)


def option_for(name: str | None, known: Sequence[Row]) -> str | None:
    """The option that an alias or id in an address means: the alias of a current dictionary, else the id."""
    for row in known:
        if name == row["dictionary_id"] or (name == row["alias"] and row["is_current"]):
            return _name(row)
    return name


def _name(row: Row) -> str:
    return str(row["alias"] if row["is_current"] else row["dictionary_id"])


def _names(known: Sequence[Row]) -> list[str | None]:
    return [None, *dict.fromkeys(_name(row) for row in known)]


def _shown(option: object) -> str:
    return "all" if option is None else ORDERS.get(cast(Sort, option), str(option))


def _pick(place: Any, label: str, options: Sequence[T], value: T) -> T:
    known = list(options) if value in options else [*options, value]
    picked = place.selectbox(label, known, known.index(value), format_func=_shown, key=f"{label}={value}")
    return cast(T, picked)


def _segment(place: Any, label: str, options: Sequence[T], value: T) -> T:
    key = f"{label}={value}"
    return cast(T, place.segmented_control(label, options, default=value, required=True, key=key))


def _steps(asked: BrowseSelection) -> tuple[float, float]:
    """The steps of the slider that enclose the asked range."""
    low = max((d for d in DENSITIES if d <= asked.density_low), default=DENSITIES[0])
    high = min((d for d in DENSITIES if d >= asked.density_high), default=DENSITIES[-1])
    return low, high
