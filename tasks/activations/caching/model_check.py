"""Checks from a model's files, before anything runs, whether the model can do what a pipeline requests."""

from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.hookpoint import Hookpoint
from tasks.activations.models.adapters import check_adapter, read_adapter
from tasks.activations.models.files import check_hookpoints
from tasks.activations.models.hookpoints import resolve_hookpoint
from tasks.activations.models.source import ModelConfig, check_model_folder, model_folder


def check_model(model: ModelConfig, config: ActivationsConfig) -> None:
    """Check the files of a model against each other, against the stages and against the request.

    Embedded models are read as far as their headers: they come with featlas, which tests them. Hookpoints
    that name a module are looked up in a model without weights.

    Raises:
        UserError: one sentence for the first problem that would stop a stage.
    """
    asked = config.for_model(model)
    files = check_model_folder(model_folder(model))
    check_hookpoints(files, asked.hookpoints, asked.context_length)
    named = [hookpoint for hookpoint in asked.hookpoints if Hookpoint.parse(hookpoint).layer is None]
    if named:
        from tasks.activations.models.language_model import empty_language_model

        empty = empty_language_model(model)
        for hookpoint in named:
            resolve_hookpoint(empty, hookpoint)
    if model.adapter is not None:
        check_adapter(read_adapter(model.adapter), files.shapes, model.id)
    if model.source != "embedded":
        from tasks.activations.caching.corpus_tokens import check_request  # brings Transformers
        from tasks.activations.models.language_model import preview_model_spec

        check_request(preview_model_spec(model), asked)
