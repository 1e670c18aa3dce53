"""Fields bound to the address: the one way in which a widget of a page holds its value.

The address says what a page shows. A field has one key for good; before it is drawn it is given the value of
the address, and when a person changes it a callback writes the address before the page is drawn again. A
link, the back button and the field itself therefore lead to the same state, however often each is used.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")
Parameters = dict[str, str]
Write = Callable[[Parameters, T], Parameters]
_ADDRESS = "address"
JUMP = "jump"
"""Where a callback leaves the parameters of a feature to go to; it cannot go itself."""


def address() -> Parameters:
    """The parameters of the address of the page that is being drawn; call it before any field is drawn."""
    parameters: Parameters = st.query_params.to_dict()
    st.session_state[_ADDRESS] = parameters
    return parameters


def field(
    widget: Callable[..., Any], *arguments: Any, key: str, value: T, write: Write[T], **options: Any
) -> None:
    """Draw a widget that shows ``value``, which the address holds.

    Args:
        widget: A function of Streamlit or of a container, for example ``st.text_input``.
        arguments: Its arguments before the value, such as the label.
        key: Name of the field, unique among all pages.
        value: What the field shows, read from the address.
        write: Makes the parameters of the next address from those of the present one and a new value.
        options: Further arguments of the widget.
    """
    hold(key, value)
    widget(*arguments, key=key, on_change=_changed, args=(key, write), **options)


def hold(key: str, value: object) -> None:
    """Give the widget ``key``, not drawn yet, the value of the address; what is typed meanwhile stays.

    A widget inside a form needs this alone: its button writes the address.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def held() -> Parameters:
    """The parameters of the address as the session knows them, for callbacks."""
    parameters: Parameters = st.session_state[_ADDRESS]
    return parameters


def go(parameters: Mapping[str, str]) -> None:
    """Write the address of this page; a callback calls it before the page is drawn."""
    st.session_state[_ADDRESS] = dict(parameters)
    st.query_params.from_dict(dict(parameters))


def _changed(key: str, write: Write[Any]) -> None:
    # The browser may not have heard of the last change yet; the session has.
    go(write(held(), st.session_state[key]))
