"""Checks of models before anything runs, beyond the checks of the pipeline file."""

from pathlib import Path

from catalog.connection import connect
from catalog.errors import UserError
from catalog.queries import model_ids
from catalog.snapshot import newest_snapshot
from flows.config import PipelineConfig
from flows.import_request import ImportRequest
from tasks.activations.caching.model_check import check_model


def check_models(config: PipelineConfig, root: Path) -> None:
    """Check the files and parents of every model of a pipeline; fetch the files of a hub model.

    Raises:
        UserError: one sentence for the first model that cannot do what the pipeline requests.
    """
    for model in config.models:
        check_model(model, config.activations)
    _check_parents(config, root)


def _check_parents(config: PipelineConfig, root: Path) -> None:
    """Refuse a parent that is neither a model of the pipeline nor one of the catalogue."""
    here = {model.id for model in config.models}
    elsewhere = [model for model in config.models if model.parent is not None and model.parent not in here]
    if not elsewhere:
        return
    known: set[str] = set()
    if newest_snapshot(root).version:
        with connect(root) as connection:
            known = set(model_ids().read(connection)["model_id"].to_pylist())
    for model in elsewhere:
        if model.parent not in known:
            raise UserError(
                f"model {model.id!r}: its parent {model.parent!r} is neither in the pipeline nor in the "
                f"catalogue; known: {', '.join(sorted(known | here - {model.id})) or 'none'}"
            )


def check_import(request: ImportRequest) -> None:
    """Check the files and hookpoints of the models that an imported dictionary belongs to.

    Raises:
        UserError: one sentence for the first model that cannot do what the import requests.
    """
    hookpoints = tuple(dict.fromkeys((*request.place.reads, *request.place.writes)))
    activations = request.config.activations.model_copy(update={"hookpoints": hookpoints})
    for model in request.models:
        check_model(model.model_copy(update={"hookpoints": ()}), activations)
