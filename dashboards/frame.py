"""The frame of every page: title, age of the data, errors as messages, keys."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from catalog import queries
from catalog.errors import UserError
from dashboards import data, figures, links
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.keyboard import draw_keyboard
from dashboards.components.markup import el
from dashboards.components.text_marks import visible

LONGEST_TITLE = 120
_log = logging.getLogger(__name__)

FAILURE = "This page could not be drawn; the server's log has the reason. Run “featlas verify” for a check."
EMPTY = (
    "This catalogue is empty: nothing was published yet. Fill it from the project's folder with “make demo”, "
    "or with “featlas run demo --catalog FOLDER” for the folder shown below. The features then appear "
    "on this page."
)


@dataclass
class Frame:
    """The page being drawn: its catalogue and the position of its keys."""

    catalogue: data.Catalogue
    _keys: DeltaGenerator
    top: str = ""
    """The identity of the page's content; if it changed, the page scrolls to its top."""
    _listening: bool = False

    def named(self, title: str) -> None:
        """Set the title of the browser tab."""
        _name_tab(title)

    def listen(self, previous: str | None = None, following: str | None = None) -> None:
        """Listen for the keys from now on; ``k`` and ``j`` lead to ``previous`` and ``following``.

        A page that knows both calls this before it draws its content, so that no quick second press is lost.
        """
        if not self._listening:
            self._listening = True
            with self._keys:
                dictionary = st.query_params.get("dictionary")
                anywhere = links.page("feature", dictionary=dictionary, feature=links.RANDOM)
                draw_keyboard(previous, following, anywhere, self.top)


@contextmanager
def page(title: str) -> Iterator[Frame]:
    """Draw the frame of a page around its content.

    A user's error ends the content with its sentence. Any other error is logged with its traceback and shown
    as one sentence.
    """
    _name_tab(title)
    st.title(title, anchor=False)
    try:
        catalogue = data.current()
    except UserError as error:
        draw(notice(str(error), bad=True), key="no-catalogue")
        st.stop()
    content, foot, keys = st.container(), st.container(), st.container()
    shown = Frame(catalogue, keys)
    with content:
        try:
            _damage(catalogue)
            yield shown
        except UserError as error:
            draw(notice(str(error), bad=True), key="user-error")
        except Exception:
            _log.exception("page %s failed", title)
            draw(notice(FAILURE, bad=True), key="failure")
    shown.listen()
    with foot:
        st.space("medium")
        _freshness(catalogue)


def draw_alias(catalogue: data.Catalogue, name: str | None) -> None:
    """Report it if a link names a dictionary by an alias that referred to another one before."""
    found = data.one(catalogue, queries.alias(alias=name)) if name else None
    if found is None or found["n_meanings"] < 2:
        return
    since = figures.moment(found["valid_from"])
    others = "another dictionary" if found["n_meanings"] == 2 else f"{found['n_meanings'] - 1} others"
    said = f"“{name}” is an alias: since {since} it refers to {found['dictionary_id']}, before to {others}."
    draw(notice(said), key=f"alias-{name}")


def _name_tab(title: str) -> None:
    st.set_page_config(page_title=f"{visible(title)[:LONGEST_TITLE]} · featlas")


def _freshness(catalogue: data.Catalogue) -> None:
    if catalogue.empty:
        said = f"Catalogue folder {catalogue.root}"
    else:
        when = figures.moment(catalogue.committed_at)
        said = f"Catalogue of {when}, version {catalogue.version}. All times are UTC."
    draw(el("p", said, cls="quiet small"), key="freshness")


def _damage(catalogue: data.Catalogue) -> None:
    """Name the tables that miss rows because files were lost or damaged."""
    damaged = data.rows(catalogue, queries.damage())
    if damaged:
        tables = ", ".join(sorted({row["table_name"] for row in damaged}))
        files = "1 data file" if len(damaged) == 1 else f"{len(damaged)} data files"
        said = (
            f"{files} of {tables} cannot be read, and all pages leave their rows out. "
            "Run “featlas verify” to see which, then the pipeline with “--force --stage” for that stage."
        )
        draw(notice(said, bad=True), key="damage")


def empty_state() -> None:
    """The content of a page of an empty catalogue."""
    draw(notice(EMPTY), key="empty")
