"""The fields of the browse and compare pages, each bound to its part of the address."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import streamlit as st

from catalog.schemas import FeatureStatus
from dashboards import figures, links
from dashboards.bound import JUMP, Parameters, Write, address, field
from dashboards.selection import DENSITIES, BrowseSelection, CompareSelection, Matched

Row = Mapping[str, Any]

ORDERS: Mapping[str, str] = {
    "score": "best score first",
    "density": "densest first",
    "rare": "rarest first",
    "activation": "largest activation first",
    "matches": "most matches first",
    "index": "by index",
    "score_up": "worst score first",
    "activation_up": "smallest activation first",
    "matches_up": "fewest matches first",
    "label": "by label",
    "label_down": "by label, backwards",
    "index_down": "by index, backwards",
}
STATUSES = ("any", *get_args(FeatureStatus))
MATCHED: tuple[Matched, ...] = get_args(Matched)
FOLDED = frozenset({"model", "status", "matched", "token", "density_low", "density_high", "score"})
RANDOM = ("random", "r")
OPENED = "browse-more-filters"
SIDES = {"a": "First", "b": "Second"}
NAMES = ("model", "dictionary")  # an empty option selects none of these


def draw_filters(asked: BrowseSelection, known: Sequence[Row]) -> None:
    """The filters, each bound to its part of the address."""
    words, dictionary, order = st.columns([4, 3, 2])
    field(
        words.text_input,
        links.SEARCH_LABEL,
        key="browse-q",
        value=asked.q,
        write=partial(_search, _names(known)[1:]),
        type="search",
        placeholder="words of a label, #73, or random",
    )
    _pick(dictionary, "Dictionary", "dictionary", _names(known), option_for(asked.dictionary, known) or "")
    _pick(order, "Order", "sort", list(ORDERS), asked.sort)
    opened = bool(asked.to_url().keys() & FOLDED) or st.session_state.get(OPENED, False)
    st.session_state[OPENED] = opened
    with st.expander("More filters", expanded=opened):
        _folded(asked, known)


def _folded(asked: BrowseSelection, known: Sequence[Row]) -> None:
    first, second, third = st.columns(3)
    _pick(first, "Model", "model", ["", *sorted({row["model_id"] for row in known})], asked.model or "")
    _segment(second, "Status", "status", STATUSES, asked.status)
    _segment(third, "Matched elsewhere", "matched", MATCHED, asked.matched)
    first, second, third = st.columns(3)
    field(
        first.text_input,
        "Top token contains",
        key="browse-token",
        value=asked.token,
        write=_filter("token"),
    )
    field(
        second.select_slider,
        "Density",
        DENSITIES,
        (DENSITIES[0], DENSITIES[-1]),  # two handles; the value comes from the address
        key="browse-density",
        value=_steps(asked),
        write=_density,
        format_func=figures.percent,
    )
    field(
        third.slider,
        "Score interval starts at or above",
        0.0,
        1.0,
        step=0.05,
        key="browse-score",
        value=asked.score,
        write=_filter("score"),
    )


def draw_pages(n_pages: int, asked: BrowseSelection) -> None:
    """Links through the pages of the table."""

    def write(parameters: Parameters, page: int) -> Parameters:
        return replace(BrowseSelection.from_url(parameters), page=page).to_url()

    field(
        st.pagination,
        n_pages,
        key="browse-page",
        value=min(asked.page, n_pages),
        write=write,
    )


def draw_change_pages(n_pages: int) -> int:
    """Links through the changes of a run; the page in the address, else the first."""
    typed = address().get("changes", "1")
    page = min(max(1, int(typed)), n_pages) if typed.isdecimal() and len(typed) < 9 else 1

    def write(parameters: Parameters, chosen: int) -> Parameters:
        return {**parameters, "changes": str(chosen)}

    field(st.pagination, n_pages, key="overview-changes", value=page, write=write)
    return page


def _filter(name: str) -> Write[Any]:
    """Writes a filter of that name, and returns to the first page of results."""
    return lambda parameters, value: _filtered(parameters, **{name: value})


def _search(known: Sequence[str], parameters: Parameters, value: str) -> Parameters:
    """Writes the search words; a number of the selected or only dictionary, or “random”, opens a feature."""
    typed, dictionary = (value or "").strip().lower(), parameters.get("dictionary", "")
    if not dictionary and len(known) == 1:
        (dictionary,) = known
    number = BrowseSelection(q=typed).number
    if typed in RANDOM or (number is not None and dictionary):
        feature = links.RANDOM if number is None else str(number)
        st.session_state[JUMP] = ({"dictionary": dictionary} if dictionary else {}) | {"feature": feature}
        return parameters
    return _filtered(parameters, q=value or "")


def _density(parameters: Parameters, value: tuple[float, float]) -> Parameters:
    return _filtered(parameters, density_low=value[0], density_high=value[1])


def _filtered(parameters: Parameters, **changed: Any) -> Parameters:
    given: dict[str, Any] = {
        name: None if value == "" and name in NAMES else value for name, value in changed.items()
    }
    return replace(BrowseSelection.from_url(parameters), page=1, **given).to_url()


def draw_sides(parameters: Parameters, known: Sequence[str]) -> CompareSelection:
    """Two fields for the sides of a comparison; the first two of ``known`` if the address names none.

    Raises:
        UserError: for a malformed side; the fields keep what was typed.
    """
    shown = parameters if parameters.keys() & SIDES.keys() else dict(zip(SIDES, known, strict=False))
    for place, (name, label) in zip(st.columns(2), SIDES.items(), strict=True):
        field(
            place.text_input,
            label,
            key=f"compare-{name}",
            value=shown.get(name, ""),
            write=partial(_side, shown, name),
            help="A dictionary, or one of its features as DICTIONARY#FEATURE; an alias works too.",
        )
    return CompareSelection.from_url(shown)


def _side(shown: Parameters, name: str, parameters: Parameters, typed: str | None) -> Parameters:
    held = parameters if parameters.keys() & SIDES.keys() else shown
    sides = {**held, name: (typed or "").strip()}
    return {key: value for key, value in sides.items() if value}


def option_for(name: str | None, known: Sequence[Row]) -> str | None:
    """The option for an alias or id in an address: the alias of a current dictionary, else the id."""
    for row in known:
        if name == row["dictionary_id"] or (name == row["alias"] and row["is_current"]):
            return _name(row)
    return name


def _name(row: Row) -> str:
    return str(row["alias"] if row["is_current"] else row["dictionary_id"])


def _names(known: Sequence[Row]) -> list[str]:
    return ["", *dict.fromkeys(_name(row) for row in known)]


def _shown(option: str) -> str:
    return {"": "all", **ORDERS}.get(option, option)


def _pick(place: Any, label: str, name: str, options: Sequence[str], value: str) -> None:
    known = list(options) if value in options else [*options, value]
    write = _filter(name)
    field(place.selectbox, label, known, key=f"browse-{name}", value=value, write=write, format_func=_shown)


def _segment(place: Any, label: str, name: str, options: Sequence[str], value: str) -> None:
    write = _filter(name)
    field(
        place.segmented_control, label, options, key=f"browse-{name}", value=value, write=write, required=True
    )


def _steps(asked: BrowseSelection) -> tuple[float, float]:
    """The steps of the slider that enclose the requested range."""
    low = max((d for d in DENSITIES if d <= asked.density_low), default=DENSITIES[0])
    high = min((d for d in DENSITIES if d >= asked.density_high), default=DENSITIES[-1])
    return low, high
