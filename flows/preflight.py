"""What can be known to be wrong before anything runs, beyond what a pipeline's file says by itself."""

from flows.config import PipelineConfig
from tasks.activations.model_check import check_model


def check_models(config: PipelineConfig) -> None:
    """Look into the files of every model of a pipeline; a model of the hub is fetched for that.

    Raises:
        UserError: one sentence for the first model that cannot do what is asked of it.
    """
    for model in config.models:
        check_model(model, config.activations)
