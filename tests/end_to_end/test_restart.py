"""A platform that is stopped in the middle of a run and started again, as an update does.

The server declares the run crashed, which frees the place of its deployment. It does not start it again: the
event of the crash follows one that the new server has not seen. The next run goes on with its work.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient

from catalog.connection import connect
from tests.end_to_end.conftest import Platform, User

pytestmark = [pytest.mark.engine, pytest.mark.faults, pytest.mark.timeout(900)]

LONG = {"architecture": "topk", "d_sae": 512, "k": 8, "lr": 0.001, "n_tokens": 600_000}
ONE = {"id": "pico-a", "source": "embedded", "hookpoints": ["blocks.2.resid_post"]}


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="featlas-restart-"))  # the database needs a folder others can enter
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_run_that_was_stopped_with_the_platform_blocks_no_later_one(folder: Path, wait_for: Any) -> None:
    pipeline = User(folder).pipeline(models=[ONE], dictionaries=[LONG], match=[])
    extra = {"FEATLAS_CHECKPOINT_SECONDS": "0.5"}
    first = Platform(folder, pipeline, extra)
    try:
        first.wait_until_ready()
        with SyncPrefectClient(first.api_url, auth_string=first.key) as client:
            deployment = client.read_deployment_by_name("nightly/tiny")
            run = client.create_flow_run_from_deployment(deployment.id)
            checkpoints = first.catalogue / "_scratch"
            wait_for("training", lambda: any(checkpoints.glob("*/checkpoints/LATEST")), 240, every=0.05)
    finally:
        first.stop()
    second = Platform(folder, pipeline, extra)
    try:
        second.wait_until_ready()
        with SyncPrefectClient(second.api_url, auth_string=second.key) as client:

            def is_in(state: str, of: UUID) -> bool:
                return client.read_flow_run(of).state_name == state

            wait_for("the crash of the run", lambda: is_in("Crashed", run.id), 240)
            later = client.create_flow_run_from_deployment(deployment.id)
            wait_for("the end of the next run", lambda: is_in("Completed", later.id), 300)
    finally:
        second.stop()
    with connect(second.catalogue) as connection:
        query = "select state from runs order by started_at"
        assert connection.execute(query).fetchall() == [("crashed",), ("completed",)]
        trained = (
            "select attempt > 1 from stage_runs where stage = 'train_dictionary' and state = 'committed'"
        )
        assert connection.execute(trained).fetchall() == [(True,)]
