"""What an import needs, resolved and checked before a server starts or a model is loaded."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from catalog.errors import UserError
from catalog.ids import check_name
from flows.config import PipelineConfig, load_pipeline
from flows.overrides import first_fault
from tasks.activations.models.source import ModelConfig
from tasks.common.paths import user_path
from tasks.common.plain_files import parse_yaml
from tasks.foreign.reading import ReadingConfig
from tasks.foreign.record import Foreign
from tasks.foreign.sample import Hookpoints
from tasks.foreign.source import ForeignSource

_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class ImportRequest(NamedTuple):
    """Everything an import needs, checked before anything runs."""

    config: PipelineConfig
    source: ForeignSource
    models: tuple[ModelConfig, ...]
    """One model, or the two that a crosscoder reads together."""
    hookpoints: Hookpoints
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
    """Read file and pipeline and resolve what the parameters leave open.

    Raises:
        UserError: one sentence for the first error; nothing was stored or run.
    """
    if not path:
        raise UserError("an import needs the path of the dictionary's file or folder")
    config = load_pipeline(pipeline, overrides)
    source = ForeignSource(
        format=format,
        path=user_path(path).absolute(),
        reading=_reading(settings),
        allow_pickle=unsafe_allow_pickle,
    )
    foreign = source.read()
    models = _models(config, model, foreign)
    hookpoints = Hookpoints.parse(hookpoint) if hookpoint else Hookpoints.of(foreign.reads, foreign.writes)
    if not hookpoints.reads or (foreign.kind == "transcoder" and not foreign.writes and "," not in hookpoint):
        raise UserError(
            f"{path} does not say which hookpoints it belongs to: pass --hookpoint, for example "
            "blocks.2.resid_post, or blocks.2.mlp_in,blocks.2.mlp_out for a transcoder"
        )
    if len(models) > 1:
        hookpoints = hookpoints._replace(models=tuple(chosen.id for chosen in models))
    _check_hookpoints(foreign, hookpoints)
    last = name or f"{format}-{_ODD.sub('-', source.path.stem).strip('-.') or 'dictionary'}"
    return ImportRequest(config, source.pinned(foreign), models, hookpoints, check_name(last, "name"))


def _reading(settings: Sequence[str]) -> ReadingConfig:
    values: dict[str, Any] = {}
    for setting in settings:
        field, separator, text = setting.partition("=")
        if not separator or not field:
            raise UserError(
                f"--set {setting!r} is not of the form NAME=VALUE, for example normalisation=none"
            )
        values[field] = parse_yaml(text, f"the value of --set {field}")
    try:
        return ReadingConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--set: {first_fault(error)}") from None


def _models(config: PipelineConfig, text: str, foreign: Foreign) -> tuple[ModelConfig, ...]:
    """The models named, joined by ``+``; the one of the file or of the pipeline if none is named."""
    by_id = {model.id: model for model in config.models}
    known = ", ".join(by_id)
    told = foreign.model_name
    of_file = next((m.id for m in config.models if told and told in (m.id, m.path)), None)
    said = text or of_file or "+".join(by_id)
    names = str(said).split("+")
    if not text and len(names) > 1:
        raise UserError(f"--model is needed with pipeline {config.name!r}; its models are {known}")
    for name in names:
        if name not in by_id:
            raise UserError(f"there is no model {name!r} in pipeline {config.name!r}; its models are {known}")
    if len(names) > 1 and foreign.kind != "crosscoder":
        both = " and ".join(names)
        raise UserError(f"{foreign.source} belongs to one model, not to {both}: only a crosscoder reads two")
    if len(names) > 2 or len(set(names)) < len(names):
        raise UserError(f"a crosscoder reads one model or two different ones, not {' and '.join(names)}")
    return tuple(by_id[name] for name in names)


def _check_hookpoints(foreign: Foreign, hookpoints: Hookpoints) -> None:
    """Refuse a crosscoder that was trained on a different number of hookpoints than are named."""
    n_models = max(len(hookpoints.models), 1)
    if foreign.kind != "crosscoder" or len(hookpoints.reads) * n_models == foreign.n_hookpoints:
        return
    of = f" of each of {n_models} models" if n_models > 1 else ""
    raise UserError(
        f"{foreign.source} reads {foreign.n_hookpoints} hookpoints, but {len(hookpoints.reads)}{of} are "
        "named: pass --hookpoint READ+READ for layers of one model, "
        "--model FIRST --model SECOND for two models"
    )
