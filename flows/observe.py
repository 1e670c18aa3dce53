"""Look at dictionaries of the catalogue on another model, corpus or hookpoint."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.errors import UserError
from catalog.ids import digest
from flows.config import PipelineConfig, load_pipeline
from flows.graph import Stage, following, with_needs
from flows.labelling import LABELLING, hand_over, stages_here
from flows.members import used_dictionaries
from flows.observing import observe_stages
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.preflight import check_models
from flows.reports import started_run
from flows.walk import Walk
from tasks.observing.config import WITHIN_A_SET

Pattern = Annotated[str, Field(min_length=1, max_length=400, examples=["pico-a/*/topk-*"])]
STAGES = ("observe_dictionary", *following("observe_dictionary"))

LABELS = "observe/labels"
"""The deployment of this flow that labels what was observed, in the light pool."""


@flow(name="observe", flow_run_name=lambda: run_name("observe"), persist_result=False)
def observe(
    dictionaries: list[Pattern],
    pipeline: PipelineName,
    model: str = "",
    corpus: str = "",
    hookpoint: str = "",
    stages: list[Stage] = [],  # noqa: B006 (never changed; None would make the form offer two types)
    catalogue: Catalogue = "",
    force: bool = False,
    overrides: list[Override] = [],  # noqa: B006
    found_only: bool = False,
) -> dict[str, Any]:
    """Look at dictionaries of the catalogue on one more set; `observe/labels` may label what is found.

    Args:
        dictionaries: Aliases, ids, or patterns with * and ? that they match
        pipeline: Pipeline that names models and corpora, and how to measure, mine, explain and score
        model: Model of the pipeline to observe; empty for the one that the dictionary reads
        corpus: Id of a corpus of the pipeline; empty for the one on which the pipeline trains
        hookpoint: Hookpoint to read; empty for those of the dictionary
        stages: Only these stages and what they need; empty for all that follow
        catalogue: Folder of the catalogue; empty for FEATLAS_CATALOG of the worker, else ./catalogue
        force: Observe again even if it is done
        overrides: Settings of the pipeline to change for this run, each as path=value: mining.n_top=20
        found_only: Label what is in the catalogue, and leave out what is not there yet
    """
    where: dict[str, Any] = {
        "dictionaries": dictionaries,
        "model": model,
        "corpus": corpus,
        "hookpoint": hookpoint,
    }
    config = _observing(load_pipeline(pipeline, overrides), **where)
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UserError(f"stage {unknown[0]!r} does not follow an observation; stages: {', '.join(STAGES)}")
    wanted = stages or STAGES
    chosen = with_needs(wanted)
    here = chosen if found_only else frozenset(stages_here(config, wanted))
    forced = frozenset(LABELLING if found_only else wanted) if force else frozenset()
    only = frozenset(LABELLING) if found_only else None
    with started_run("observe", config.name, catalogue, forced, digest(config.canonical()), only) as run:
        check_models(config, run.context.root)
        observe_stages(Walk(run, config, here), used_dictionaries(config, run.context.root))
        if here != chosen:
            with run.branch("hand labelling over"):
                how = {"pipeline": pipeline, "stages": stages, "overrides": overrides}
                hand_over(run, LABELS, {**where, **how})
    return run.result()


def _observing(
    config: PipelineConfig, dictionaries: list[str], model: str, corpus: str, hookpoint: str
) -> PipelineConfig:
    """The pipeline with these dictionaries in place of its own, looked at on this set alone.

    What it compares between two sets is left to the run that looks at both.
    """
    entry = {"model": model, "corpus": corpus, "hookpoint": hookpoint}
    return config.with_sections(
        dictionaries=[{"use": pattern} for pattern in dictionaries],
        observe=[{name: value for name, value in entry.items() if value}],
        compare=tuple(one for one in config.compare if one.kind in WITHIN_A_SET),
    )
