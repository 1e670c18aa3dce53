"""Fields bound to the address: the only way in which a widget of a page holds its value.

The address determines what a page shows. A field keeps one key. Before a page draws it, the field gets the
value of the address. When a person changes the field, a callback writes the address before the page is drawn
again. A link, the back button and the field itself therefore lead to the same state, however often they are
used.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")
Parameters = dict[str, str]
Write = Callable[[Parameters, T], Parameters]
_ADDRESS = "address"
JUMP = "jump"
"""Where a callback stores the parameters of the next feature, because it cannot switch pages itself."""


def address() -> Parameters:
    """The parameters of the address of the current page; call this before drawing any field."""
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
        write: Computes the parameters of the next address from the current ones and a new value.
        options: Further arguments of the widget.
    """
    hold(key, value)
    widget(*arguments, key=key, on_change=_changed, args=(key, write), **options)


def hold(key: str, value: object) -> None:
    """Give the widget ``key``, not drawn yet, the value of the address; text being typed stays.

    For a widget inside a form this is enough: the button of the form writes the address.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def held() -> Parameters:
    """The parameters of the address as the session knows them, for callbacks."""
    parameters: Parameters = st.session_state[_ADDRESS]
    return parameters


def go(parameters: Mapping[str, str]) -> None:
    """Write the address of this page; a callback calls this before the page is drawn."""
    st.session_state[_ADDRESS] = dict(parameters)
    st.query_params.from_dict(dict(parameters))


def _changed(key: str, write: Write[Any]) -> None:
    # The browser may not know the last change yet; the session does.
    go(write(held(), st.session_state[key]))
