"""Import a foreign dictionary: check it, cache its activations, then mine, explain, score and match it."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.ids import digest
from catalog.ledger import StageOutcome
from flows.config import PipelineConfig
from flows.evidence import dictionary_stages, suite_stages
from flows.graph import Stage, following, named
from flows.import_request import ImportRequest, import_request
from flows.labelling import LABELLING, hand_over, labels_elsewhere
from flows.match_forecast import tell_forecast
from flows.pair_limit import check_with
from flows.pairs import landed_units
from flows.parameters import Catalogue, FilePath, Override, PipelineName, run_name
from flows.preflight import check_import
from flows.reports import Run, started_run
from flows.walk import Walk
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.config import EvaluationConfig
from tasks.foreign.format import FORMATS
from tasks.foreign.gate import GateConfig
from tasks.foreign.sample import Hookpoints
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.gate_dictionary import GateUnit, gate_dictionary
from tasks.stages.import_dictionary import import_dictionary as land_dictionary
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import match_features
from tasks.support.import_units import ImportUnit

STAGES = frozenset(following("observe_dictionary"))
LABELS = "import-dictionary/labels"
"""The deployment of this flow that labels what was imported, in the light pool."""
FormatName = Annotated[str, Field(json_schema_extra={"enum": sorted(FORMATS)})]
LABELLED = frozenset(named("mine_examples", *LABELLING))
"""What a run that only labels walks; examples are found, never mined there."""
FORCED = STAGES | {"gate_dictionary", "import_dictionary", "match_features"}


@flow(name="import-dictionary", flow_run_name=lambda: run_name("import"), persist_result=False)
def import_dictionary(
    format: FormatName,
    path: FilePath,
    pipeline: PipelineName,
    model: str = "",
    hookpoint: str = "",
    name: str = "",
    settings: list[Override] = [],  # noqa: B006 (never changed; None would make the form offer two types)
    accept_unverified: bool = False,
    unsafe_allow_pickle: bool = False,
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006
    found_only: bool = False,
) -> dict[str, Any]:
    """Import a dictionary of another tool that fits the model; `import-dictionary/labels` may label it.

    Args:
        format: Tool that wrote the file
        path: File or folder of the dictionary, on the machine of the worker
        pipeline: Pipeline that names the corpus and the models, and how to mine, explain and score
        model: Id of its model in the pipeline, FIRST+SECOND for two; empty if there is one
        hookpoint: Where it reads, like blocks.2.resid_post, or READ,WRITTEN; empty for what the file says
        name: Last part of its alias in the catalogue; empty for format and file name
        settings: Settings that override the file, each as path=value: normalisation=dataset_rms
        accept_unverified: Import it even if it does not fit, marked as not verified
        unsafe_allow_pickle: Open a pickled file, in a child process that only creates tensors from it
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Import it again even if it is done
        overrides: Settings of the pipeline to change for this run, each as path=value: mining.n_top=20
        found_only: Label what is in the catalogue, and leave out what is not there yet
    """
    given: dict[str, Any] = {
        "format": format,
        "path": path,
        "pipeline": pipeline,
        "model": model,
        "hookpoint": hookpoint,
        "name": name,
        "settings": settings,
        "overrides": overrides,
        "unsafe_allow_pickle": unsafe_allow_pickle,
    }
    request = import_request(**given)
    given |= {"path": str(request.source.path), "accept_unverified": accept_unverified}
    return _import(request, given, catalogue, force=force, found_only=found_only)


def _import(
    request: ImportRequest, given: dict[str, Any], catalogue: str, *, force: bool, found_only: bool
) -> dict[str, Any]:
    """Import a dictionary and run what follows, or only label it if it is in the catalogue.

    Args:
        request: What to import.
        given: The parameters of the flow, for the run that labels.
        catalogue: Folder of the catalogue; empty for the default.
        force: Import it again even if it is done.
        found_only: Label what is in the catalogue, and leave out what is not there yet.

    Returns:
        The result of the run, see `flows.reports.Run.result`.
    """
    forced = frozenset(LABELLING if found_only else FORCED) if force else frozenset()
    only = frozenset(LABELLING) if found_only else None
    where = [list(part) for part in request.hookpoints]
    described = digest([request.config.canonical(), request.source.described(), where])
    with started_run("import-dictionary", request.config.name, catalogue, forced, described, only) as run:
        landed = _landed(run, request, given["accept_unverified"])
        if found_only:
            walk = Walk(run, request.config, LABELLED)
            dictionary_stages(walk, request.models, landed, EvaluationConfig())
        else:
            _follow_or_hand_over(run, request, landed, given)
    return run.result()


def _follow_or_hand_over(
    run: Run, request: ImportRequest, landed: StageOutcome, given: dict[str, Any]
) -> None:
    """Run every stage after the import; a worker leaves labels of an endpoint to another run."""
    if labels_elsewhere(request.config):
        _follow(run, request, landed, STAGES.difference(LABELLING))
        with run.branch(f"hand labelling of {landed.facts['dictionary_id']} over"):
            hand_over(run, LABELS, given)
    else:
        _follow(run, request, landed, STAGES)


def _landed(run: Run, request: ImportRequest, accept_unverified: bool) -> StageOutcome:
    """Gate the dictionary, cache what it reads, and put it into the catalogue."""
    check_import(request)
    check_with(request.config, run.context.root)
    config, source, models, hookpoints, name = request
    corpus = run.do(load_corpus, CorpusUnit(config.all_corpora[0].texts, config.activations.eval_share))
    described = tuple(run.do(describe_model, ModelUnit(model)) for model in models)
    gate_unit = GateUnit(
        source, hookpoints, GateConfig(), models, config.activations, corpus, described, accept_unverified
    )
    gated = run.do(gate_dictionary, gate_unit)
    first = 1 if "generations" in corpus.facts else None
    cached = tuple(
        run.do(
            cache_activations,
            CacheUnit(*_caching(model, config.activations, hookpoints), corpus, outcome, first),
        )
        for model, outcome in zip(models, described, strict=True)
    )
    return run.do(land_dictionary, ImportUnit(source, name, hookpoints, models, cached, gated))


def _follow(run: Run, request: ImportRequest, landed: StageOutcome, stages: frozenset[Stage]) -> None:
    """Everything that follows once the dictionary is in the catalogue."""
    walk = Walk(run, request.config, stages)
    dictionary_stages(walk, request.models, landed, EvaluationConfig())
    suite_stages(walk, request.models, landed)
    _match_stages(run, request.config, landed)


def _match_stages(run: Run, config: PipelineConfig, landed: StageOutcome) -> None:
    """Run each matcher on the dictionary and every other one that the pipeline chooses and it compares."""
    with run.branch("match"):
        units = landed_units(config.match, landed, run.context.root)
        if config.match:
            tell_forecast(run, config.match, units)
        for unit in units:
            with run.branch(f"match {unit.label}"):
                run.do(match_features, unit)


def _caching(
    model: ModelConfig, activations: ActivationsConfig, hookpoints: Hookpoints
) -> tuple[ModelConfig, ActivationsConfig]:
    """The pipeline's own caching if it has the hookpoints, so that it is found; else these hookpoints."""
    needed = tuple(dict.fromkeys(hookpoints.reads + hookpoints.writes))
    if set(needed) <= set(activations.for_model(model).hookpoints):
        return model, activations
    return model.model_copy(update={"hookpoints": needed}), activations
