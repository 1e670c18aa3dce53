"""A Prefect server for this machine only: ``python -m flows.api_server --port 4200``.

It requires the key of this installation, accepts requests only from its own pages, and answers only under
its own names. Database and key are in ``PREFECT_HOME``, else in the Prefect home of featlas.
"""

import argparse
import os

from dashboards.headers import SecurityHeaders
from dashboards.own_origin import OwnOrigin
from flows.access import access_key, server_settings
from flows.engine import prefect_environment, prefect_home

PAGE_HEADERS = {
    "content-security-policy": "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}


def main() -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser(prog="python -m flows.api_server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--no-ui", action="store_true")
    parser.add_argument("--no-services", action="store_true")
    chosen = parser.parse_args()
    os.umask(0o077)  # other users must not read a SQLite database and its logs
    home = prefect_home()
    os.environ.update(prefect_environment(f"http://{chosen.host}:{chosen.port}/api", home=home))
    os.environ.update(server_settings(access_key(home), chosen.port))
    os.environ["PREFECT_SERVER_UI_ENABLED"] = str(not chosen.no_ui)
    # Prefect copies its pages when it starts; its own folder may be read-only.
    os.environ.setdefault("PREFECT_SERVER_UI_STATIC_DIRECTORY", str(home / "ui"))
    serve(chosen.host, chosen.port, with_services=not chosen.no_services)


def serve(host: str, port: int, *, with_services: bool) -> None:
    """Run the Prefect application behind the check of origin and host; the environment is set before."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    server = get_current_settings().server
    uvicorn.run(
        SecurityHeaders(OwnOrigin(create_app(final=True, webserver_only=not with_services)), PAGE_HEADERS),
        host=host,
        port=port,
        log_level=server.logging_level.lower(),
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
