"""What can be known to be wrong before anything runs, beyond what a pipeline's file says by itself."""

from flows.config import PipelineConfig
from flows.import_request import ImportRequest
from tasks.activations.caching.model_check import check_model


def check_models(config: PipelineConfig) -> None:
    """Look into the files of every model of a pipeline; a model of the hub is fetched for that.

    Raises:
        UserError: one sentence for the first model that cannot do what is asked of it.
    """
    for model in config.models:
        check_model(model, config.activations)


def check_import(request: ImportRequest) -> None:
    """Look into the files of the models that an imported dictionary belongs to, and for its hookpoints.

    Raises:
        UserError: one sentence for the first model that cannot do what is asked of it.
    """
    hookpoints = tuple(dict.fromkeys((*request.place.reads, *request.place.writes)))
    activations = request.config.activations.model_copy(update={"hookpoints": hookpoints})
    for model in request.models:
        check_model(model.model_copy(update={"hookpoints": ()}), activations)
