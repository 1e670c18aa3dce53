"""What an import needs, settled and checked before a server starts or a model is loaded."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from catalog.errors import UserError
from catalog.ids import check_name
from flows.config import PipelineConfig, first_fault, load_pipeline
from tasks.activations.model_source import ModelConfig
from tasks.dictionaries.formats.foreign import Foreign
from tasks.dictionaries.formats.reading import ReadingConfig
from tasks.dictionaries.formats.source import ForeignSource
from tasks.dictionaries.importing.sample import Place

_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class ImportRequest(NamedTuple):
    """Everything an import needs, checked before anything runs."""

    config: PipelineConfig
    source: ForeignSource
    model: ModelConfig
    place: Place
    name: str


def import_request(
    format: str,
    path: str,
    pipeline: str,
    model: str,
    hookpoint: str,
    name: str,
    settings: Sequence[str],
    overrides: Sequence[str],
    unsafe_allow_pickle: bool,
) -> ImportRequest:
    """Read file and pipeline and settle what the parameters leave open.

    Raises:
        UserError: one sentence for the first thing that is wrong; nothing was stored or run.
    """
    if not path:
        raise UserError("an import needs the path of the dictionary's file or folder")
    config = load_pipeline(pipeline, overrides)
    source = ForeignSource(
        format=format,
        path=Path(path).expanduser().absolute(),
        reading=_reading(settings),
        allow_pickle=unsafe_allow_pickle,
    )
    foreign = source.read()
    chosen = _model(config, model, foreign)
    place = Place.parse(hookpoint) if hookpoint else Place.of(foreign.reads, foreign.writes)
    if not place.reads or (foreign.kind == "transcoder" and not foreign.writes and "," not in hookpoint):
        raise UserError(
            f"{path} does not say which hookpoints it belongs to: pass --hookpoint, for example "
            "blocks.2.resid_post, or blocks.2.mlp_in,blocks.2.mlp_out for a transcoder"
        )
    last = name or f"{format}-{_ODD.sub('-', source.path.stem).strip('-.') or 'dictionary'}"
    return ImportRequest(config, source.pinned(foreign), chosen, place, check_name(last, "name"))


def _reading(settings: Sequence[str]) -> ReadingConfig:
    values: dict[str, Any] = {}
    for setting in settings:
        field, separator, text = setting.partition("=")
        if not separator or not field:
            raise UserError(
                f"--set {setting!r} is not of the form NAME=VALUE, for example normalisation=none"
            )
        values[field] = yaml.safe_load(text)
    try:
        return ReadingConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--set: {first_fault(error)}") from None


def _model(config: PipelineConfig, name: str, foreign: Foreign) -> ModelConfig:
    by_id = {model.id: model for model in config.models}
    wanted = name or (foreign.model_name if foreign.model_name in by_id else None)
    if wanted is None and len(by_id) == 1:
        wanted = next(iter(by_id))
    if wanted not in by_id:
        known = ", ".join(by_id)
        said = f"there is no model {wanted!r} in" if wanted else "--model is needed with"
        raise UserError(f"{said} pipeline {config.name!r}; its models are {known}")
    return by_id[wanted]
