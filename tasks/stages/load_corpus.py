"""Stage: read a corpus, split it into train and eval, and keep its documents."""

from dataclasses import dataclass
from typing import Any

from catalog.ledger import Claim, StageOutcome
from catalog.store import SliceWrite
from tasks.activations.corpora import CORPUS_SOURCES, corpus_table
from tasks.common.progress import ProgressListener
from tasks.support.growing import Growth, growth_of, read_grown
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.stored import forgotten_documents

STAGE, VERSION = "load_corpus", 1


@dataclass(frozen=True)
class CorpusUnit:
    """A corpus and the share of it that is held out."""

    config: Any
    eval_share: float

    @property
    def label(self) -> str:
        return f"corpus {self.config.source}"


@stage_task(STAGE, retries=3)
def load_corpus(context: StageContext, unit: CorpusUnit) -> StageOutcome:
    """Read every document once; facts: corpus_id, digest, n_documents, and of what a growing one consists."""
    origin = CORPUS_SOURCES[unit.config.source](unit.config).describe()
    config = {"corpus": unit.config.canonical(), "eval_share": unit.eval_share, "origin": origin}
    growth: Growth | None = None
    if unit.config.grows:
        growth = growth_of(context.root, unit.config, unit.eval_share, origin)
        config["after"] = growth.after

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        from tasks.activations.caching.tables import corpus_id, corpus_row, document_rows

        if growth is not None:
            return read_grown(context.root, unit.config, unit.eval_share, growth, origin, listener)
        forgotten = forgotten_documents(context.root, unit.config.canonical())
        corpus = corpus_table(unit.config, unit.eval_share, listener, forgotten)
        name = corpus_id(corpus)
        slices = [
            SliceWrite("corpora", name, corpus_row(corpus)),
            SliceWrite("documents", name, document_rows(corpus)),
        ]
        facts = {"corpus_id": name, "digest": corpus.digest, "n_documents": corpus.table.num_rows}
        return Results(slices, facts)

    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config), compute)
