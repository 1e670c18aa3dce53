"""``featlas deploy``: register pools, automations and deployments at the Prefect server."""

import os
from collections.abc import Sequence
from pathlib import Path

from catalog.errors import UserError
from flows.engine import connect_engine


def deploy_command(pipeline_files: Sequence[Path]) -> None:
    """Register everything with the server at ``PREFECT_API_URL`` and print what was registered.

    Raises:
        UserError: when no server is named, it does not answer, or it refuses the key.
    """
    api_url = os.environ.get("PREFECT_API_URL")
    if not api_url:
        raise UserError("PREFECT_API_URL is not set: name the server, for example http://127.0.0.1:4200/api")
    connect_engine()
    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "2"  # `register` retries itself and reports each retry
    from prefect.client.orchestration import get_client

    from flows.deployments import all_deployments, register, steps

    deployments = all_deployments(pipeline_files)
    with get_client(sync_client=True) as client:
        register(steps(client, deployments))
