"""The dashboard as an ASGI application: the Streamlit script, security headers and a check of who asks."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboards.headers import SecurityHeaders
from dashboards.own_origin import OwnOrigin

MIDDLEWARE = [Middleware(SecurityHeaders), Middleware(OwnOrigin)]

app = st.App(Path(__file__).parent / "app.py", middleware=MIDDLEWARE)
