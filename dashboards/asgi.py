"""The dashboard as an ASGI application: the Streamlit script with security headers around it."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboards.headers import SecurityHeaders

app = st.App(Path(__file__).parent / "app.py", middleware=[Middleware(SecurityHeaders)])
