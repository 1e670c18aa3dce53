"""Checks of models before anything runs, beyond the checks of the pipeline file."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from catalog.connection import connect
from catalog.errors import UserError
from catalog.queries import model_ids
from catalog.snapshot import newest_snapshot
from flows.config import PipelineConfig
from flows.graph import Stage
from flows.import_request import ImportRequest
from flows.members import Trained, used_dictionaries
from flows.pair_limit import check_pairs
from flows.starts import check_starts
from tasks.activations.caching.model_check import check_model
from tasks.activations.models.source import ModelConfig, check_model_folder, model_folder
from tasks.autointerp.scorer import SCORERS
from tasks.support.endpoint import check_endpoint

STREAM = ("resid_pre", "resid_mid", "resid_post")
"""Hookpoints whose width is that of the model."""


def check_before(config: PipelineConfig, root: Path, stages: frozenset[Stage], *, yes: bool = False) -> None:
    """Check what the stages of a run start from, before any of them runs.

    Args:
        config: The pipeline.
        root: The catalogue.
        stages: The stages of the run, with all that they need.
        yes: Whether the user agrees to any number of pairs to match.

    Raises:
        UserError: one sentence for the first model whose files cannot do what is requested, for a dictionary
            to start from that is not there, for an explainer or scorer whose endpoint or model is not there,
            and for more pairs than a person means.
    """
    checks: dict[Stage, Callable[[PipelineConfig, Path], None]] = {
        "describe_model": check_models,
        "train_dictionary": check_starts,
        "match_features": partial(check_pairs, yes=yes),
        "explain_features": check_explainers,
        "score_explanations": check_scorers,
    }
    for stage, check in checks.items():
        if stage in stages:
            check(config, root)


def has_usd_budget(config: PipelineConfig) -> bool:
    """Whether a run of the pipeline may spend only so much."""
    return config.budget is not None and config.budget.usd is not None


def check_explainers(config: PipelineConfig, root: Path) -> None:
    """Check what the explainers of a pipeline need: profiles of their endpoints, with keys.

    Raises:
        UserError: one sentence for the first that cannot work.
    """
    for one in config.explain:
        check_endpoint(one, is_limited=has_usd_budget(config))


def check_scorers(config: PipelineConfig, root: Path) -> None:
    """Check what the scorers of a pipeline need: profiles of their endpoints, folders of their models.

    Raises:
        UserError: one sentence for the first that cannot work.
    """
    for one in config.score:
        check_endpoint(one, is_limited=has_usd_budget(config))
        SCORERS[one.scorer].check_config(one)


def check_models(config: PipelineConfig, root: Path) -> None:
    """Check the models of a pipeline, the dictionaries it uses and the sets it observes; fetch a hub model.

    Raises:
        UserError: one sentence for the first that cannot do what the pipeline requests.
    """
    for model in config.models:
        check_model(model, config.activations)
    _check_parents(config, root)
    if config.used or config.observe:
        _check_observed(config, used_dictionaries(config, root))


def _check_observed(config: PipelineConfig, used: Sequence[Trained]) -> None:
    """Refuse a dictionary that no set fits, and a set that fits no dictionary."""
    elsewhere = any(entry.model is not None for entry in config.observe)
    for one in used:
        if not one.models and not elsewhere:
            raise UserError(
                f"{one.outcome.facts['alias']} reads {', '.join(_models_of(one))}, which is not in pipeline "
                f"{config.name!r}: add the model to models, or name another in observe"
            )
    widths = {model.id: _width(model) for model in config.models}
    read = {str(widths[model.id]) for model in config.models if config.trains_on(model)}
    read |= {str((one.d_in or 0) // len(one.outcome.facts["reads"])) for one in used}
    hookpoints = {name for model in config.models for name in config.activations.for_model(model).hookpoints}
    if any(not name.endswith(STREAM) for name in hookpoints):
        return  # the width of another hookpoint is known once the model is loaded
    for entry in config.observe:
        if entry.model is not None and str(widths[entry.model]) not in read:
            raise UserError(
                f"observe names model {entry.model!r} of width {widths[entry.model]}, but the dictionaries "
                f"read {' and '.join(sorted(read))} numbers per token: name a model of that width"
            )


def _models_of(one: Trained) -> list[str]:
    return list(dict.fromkeys(str(point["model_id"]) for point in one.outcome.facts["reads"]))


def _width(model: ModelConfig) -> int | None:
    return check_model_folder(model_folder(model)).sizes.get("d_model")


def _check_parents(config: PipelineConfig, root: Path) -> None:
    """Refuse a parent that is neither a model of the pipeline nor one of the catalogue.

    The parent of an embedded model is recorded without being there: its id stands for weights that come with
    featlas, unless the pipeline gives this id to another model.
    """
    here = {model.id: model for model in config.models}
    for model in config.models:
        other = here.get(str(model.parent_id)) if model.has_known_parent else None
        if other is not None and other.source != "embedded":
            raise UserError(
                f"model {model.id!r} was tuned from the embedded {other.id!r}, but the pipeline gives this "
                "id to another model: rename that one"
            )
    stated = [model for model in config.models if model.parent is not None and not model.has_known_parent]
    elsewhere = [model for model in stated if model.parent not in here]
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
                f"catalogue; known: {', '.join(sorted(known | here.keys() - {model.id})) or 'none'}"
            )


def check_import(request: ImportRequest) -> None:
    """Check the files and hookpoints of the models that an imported dictionary belongs to.

    Raises:
        UserError: one sentence for the first model that cannot do what the import requests.
    """
    hookpoints = tuple(dict.fromkeys((*request.hookpoints.reads, *request.hookpoints.writes)))
    activations = request.config.activations.model_copy(update={"hookpoints": hookpoints})
    for model in request.models:
        check_model(model.model_copy(update={"hookpoints": ()}), activations)
