"""Can this model do what a pipeline asks of it? Answered from its files, before anything runs."""

from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.files import check_hookpoints
from tasks.activations.models.source import ModelConfig, check_model_folder, model_folder


def check_model(model: ModelConfig, config: ActivationsConfig) -> None:
    """Check the files of a model against each other, against the stages and against the request.

    Embedded models are read as far as their headers: they come with featlas, which tests them.

    Raises:
        UserError: one sentence for the first thing that would stop a stage.
    """
    asked = config.for_model(model)
    files = check_model_folder(model_folder(model))
    check_hookpoints(files, asked.hookpoints, asked.context_length)
    if model.source != "embedded":
        from tasks.activations.caching.corpus_tokens import check_request  # brings Transformers
        from tasks.activations.models.language_model import preview_model_spec

        check_request(preview_model_spec(model), asked)
