"""Look at dictionaries of the catalogue on another model, corpus or hookpoint."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from catalog.errors import UserError
from catalog.ids import digest
from flows.config import PipelineConfig, load_pipeline
from flows.graph import NEEDS, Stage, with_needs
from flows.members import used_dictionaries
from flows.observing import observe_stages
from flows.parameters import Catalogue, Override, PipelineName, run_name
from flows.preflight import check_models
from flows.reports import started_run
from flows.walk import Walk

Pattern = Annotated[str, Field(min_length=1, max_length=400, examples=["pico-a/*/topk-*"])]
STAGES: tuple[Stage, ...] = tuple(stage for stage in NEEDS if "observe_dictionary" in with_needs([stage]))


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
) -> dict[str, Any]:
    """Look at dictionaries of the catalogue on one more set of activations; nothing is trained or copied.

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
    """
    config = _observing(load_pipeline(pipeline, overrides), dictionaries, model, corpus, hookpoint)
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UserError(f"stage {unknown[0]!r} does not follow an observation; stages: {', '.join(STAGES)}")
    forced = frozenset(stages or STAGES) if force else frozenset()
    with started_run("observe", config.name, catalogue, forced, digest(config.canonical())) as run:
        check_models(config, run.context.root)
        walk = Walk(run, config, with_needs(stages or STAGES))
        observe_stages(walk, used_dictionaries(config, run.context.root))
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
        compare=tuple(one for one in config.compare if one.kind == "labels"),
    )
