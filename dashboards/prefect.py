"""Finds out whether there is a Prefect server to link to."""

import os
from urllib.error import HTTPError
from urllib.request import urlopen

import streamlit as st

VARIABLE = "FEATLAS_PREFECT_UI_URL"
DEFAULT = "http://127.0.0.1:4200"
TRY_SECONDS = 0.5
KEPT_SECONDS = 30


def address() -> str:
    """The address of the Prefect UI, if there is one."""
    return os.environ.get(VARIABLE, DEFAULT).rstrip("/")


@st.cache_data(ttl=KEPT_SECONDS, show_spinner=False)
def answers(at: str) -> bool:
    """Whether a server answers there; a server that requires a key answers too, and no key is sent."""
    try:
        with urlopen(f"{at}/api/health", timeout=TRY_SECONDS):
            return True
    except HTTPError:
        return True
    except (OSError, ValueError):
        return False
