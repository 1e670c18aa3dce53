"""A dictionary that is imported while the corpus of its pipeline grows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Task

from catalog.connection import connect
from flows import import_dictionary as importing
from flows import spine
from flows.commands.export import export_command
from flows.config import PipelineConfig
from flows.reports import Run
from tasks.support.policies import StageContext
from tests.flows.serverless import tasks_as_functions
from tests.flows.test_growing import HOOKPOINT, N_DOCUMENTS, night, settings, write_source

COPY = "a-copy"


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Two nights, then a copy of the dictionary is imported, then a third night that also uses the copy."""
    folder = tmp_path_factory.mktemp("imported")
    root = folder / "catalogue"
    with tasks_as_functions(), pytest.MonkeyPatch.context() as patch:
        for name, task in vars(importing).copy().items():
            if isinstance(task, Task):
                task.fn.name = task.name
                patch.setattr(importing, name, task.fn)
        for n in N_DOCUMENTS[:2]:
            night(folder, root, n)
        with connect(root) as connection:
            (alias,) = connection.execute("select alias from dictionaries").fetchone()
        export_command("saelens", alias, folder / "exported", str(root))
        (folder / "growing.yaml").write_text(yaml.safe_dump(settings(folder)))
        done = importing.import_dictionary.fn(
            "saelens",
            str(folder / "exported"),
            str(folder / "growing.yaml"),
            model="pico-a",
            hookpoint=HOOKPOINT,
            name=COPY,
            catalogue=str(root),
        )
        write_source(folder, N_DOCUMENTS[2])
        values = settings(folder)
        values["dictionaries"].append({"use": f"pico-a/{HOOKPOINT}/{COPY}"})
        run = Run("test", "growing", StageContext(root, "run-3", device="cpu"), datetime.now(UTC), "0")
        spine.run_stages(run, PipelineConfig.model_validate(values), ("mine_examples",))
        assert run.failures == []
        yield root, done


def test_it_is_imported_on_the_first_documents_and_verified(catalogue: tuple[Path, dict[str, Any]]) -> None:
    root, done = catalogue
    assert done["failures"] == []
    with connect(root) as connection:
        rows = connection.execute(
            "select origin, verified, activation_set_id, alias from dictionaries order by origin"
        ).fetchall()
    (imported, trained) = rows
    assert imported[:2] == ("imported", True)
    assert imported[2] == trained[2], "their home is one set"


def test_the_next_night_looks_at_it_on_all_documents(catalogue: tuple[Path, dict[str, Any]]) -> None:
    """With the rows of the dictionary that it is a copy of."""
    root, _ = catalogue
    with connect(root) as connection:
        newest = f"""
            select activation_set_id from activation_sets
            join corpora using (corpus_id) where n_generations = {len(N_DOCUMENTS)}
        """
        for table, columns in (
            ("examples", "feature_index, band, rank, document_id, char_start, char_end"),
            ("document_firings", "feature_index, document_id, n_tokens"),
        ):
            by_origin = {
                origin: connection.execute(
                    f"""select {columns} from {table} join dictionaries using (dictionary_id)
                        where origin = $origin and {table}.activation_set_id = ({newest}) order by all""",
                    {"origin": origin},
                ).fetchall()
                for origin in ("trained", "imported")
            }
            assert len(by_origin["trained"]) > 100
            assert by_origin["imported"] == by_origin["trained"], table
