"""Checks of models before anything runs, beyond the checks of the pipeline file."""

from flows.config import PipelineConfig
from flows.import_request import ImportRequest
from tasks.activations.caching.model_check import check_model


def check_models(config: PipelineConfig) -> None:
    """Check the files of every model of a pipeline; fetch those of a hub model.

    Raises:
        UserError: one sentence for the first model that cannot do what the pipeline requests.
    """
    for model in config.models:
        check_model(model, config.activations)


def check_import(request: ImportRequest) -> None:
    """Check the files and hookpoints of the models that an imported dictionary belongs to.

    Raises:
        UserError: one sentence for the first model that cannot do what the import requests.
    """
    hookpoints = tuple(dict.fromkeys((*request.place.reads, *request.place.writes)))
    activations = request.config.activations.model_copy(update={"hookpoints": hookpoints})
    for model in request.models:
        check_model(model.model_copy(update={"hookpoints": ()}), activations)
