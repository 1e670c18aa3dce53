"""The dashboard as an ASGI application: the Streamlit script, security headers, check of host and origin."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboards.headers import SecurityHeaders
from dashboards.own_origin import OwnOrigin

MIDDLEWARE = [Middleware(SecurityHeaders), Middleware(OwnOrigin)]


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Read every new version in a thread before its first page needs it."""
    from dashboards.warming import keep_warm  # its caches need a running server

    ended = threading.Event()
    threading.Thread(target=keep_warm, args=(ended,), name="keep-warm", daemon=True).start()
    yield
    ended.set()


app = st.App(Path(__file__).parent / "app.py", middleware=MIDDLEWARE, lifespan=lifespan)
