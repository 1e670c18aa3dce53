"""What every page has around it: title, freshness, the message instead of an error, the keys."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from catalog.errors import UserError
from dashboards import data, figures, links
from dashboards.components.blocks import notice
from dashboards.components.canvas import draw
from dashboards.components.keyboard import draw_keyboard
from dashboards.components.markup import el
from dashboards.components.text_marks import visible

LONGEST_TITLE = 120
_log = logging.getLogger(__name__)

FAILURE = (
    "This page could not be drawn; the server's log says why. Run “featlas verify” to check the catalogue."
)
EMPTY = (
    "This catalogue is empty: nothing was published yet. Fill it from the project's folder with “make demo”, "
    "or with “featlas run demo --catalog FOLDER” for the folder shown below; this page shows the features as "
    "soon as they are there."
)


@dataclass
class Frame:
    """The page being drawn: the catalogue it sees and the place of its keys."""

    catalogue: data.Catalogue
    _keys: DeltaGenerator
    top: str = ""
    """What the page begins with; another one than before scrolls the page up."""
    _listening: bool = False

    def named(self, title: str) -> None:
        """Name the browser's tab after what is open."""
        _name_tab(title)

    def listen(self, previous: str | None = None, following: str | None = None) -> None:
        """Listen for the keys from now on; ``k`` and ``j`` lead to ``previous`` and ``following``.

        A page that has both says so before it draws its content, lest a quick second press goes astray.
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

    A user's error ends the content with its sentence; any other error is logged with its trace and
    shown as one sentence without it.
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
    """Where a link names a dictionary by an alias that meant another one before: say so."""
    found = data.one(catalogue, "alias", alias=name) if name else None
    if found is None or found["n_meanings"] < 2:
        return
    since = figures.moment(found["valid_from"])
    others = "another dictionary" if found["n_meanings"] == 2 else f"{found['n_meanings'] - 1} others"
    said = f"“{name}” is a name: since {since} it means {found['dictionary_id']}, before it meant {others}."
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
    """Say which tables miss rows because files were lost or damaged."""
    damaged = data.rows(catalogue, "damage")
    if damaged:
        tables = ", ".join(sorted({row["table_name"] for row in damaged}))
        files = "1 data file" if len(damaged) == 1 else f"{len(damaged)} data files"
        said = (
            f"{files} of {tables} cannot be read, and the rows in there are left out of every page. "
            "Run “featlas verify” to see which, then the pipeline with “--force --stage” for that stage."
        )
        draw(notice(said, bad=True), key="damage")


def empty_state() -> None:
    """What a page shows when there is nothing to show yet."""
    draw(notice(EMPTY), key="empty")
