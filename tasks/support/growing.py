"""Growing corpora in the catalogue: the settings of their source, and the activation set to continue."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from catalog.ids import digest
from catalog.ledger import Ledger
from catalog.store import SliceWrite
from tasks.activations.corpora.source import SourceConfig
from tasks.common.progress import ProgressListener
from tasks.support.policies import Results
from tasks.support.stored import forgotten_documents, stored_corpus, stored_rows

if TYPE_CHECKING:
    from tasks.activations.corpora import CorpusTable

LOADING = "load_corpus"
SIGNATURES = "_cache/near_duplicates"
"""Folder of the signatures of texts below the catalogue; without it they are computed again."""


class Growth(NamedTuple):
    """A corpus that grows, before its source is read."""

    lineage: str
    """Digest of what stays the same while it grows."""
    earlier: Mapping[str, Any] | None
    """Facts of the corpus that new documents are added to; None for the first ones."""

    @property
    def after(self) -> str | None:
        """Digest of that corpus."""
        return None if self.earlier is None else str(self.earlier["digest"])


class CorpusPart(NamedTuple):
    """The first generations of a corpus that grows."""

    facts: Mapping[str, Any]
    """Of the stage that read the corpus."""
    n_generations: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "CorpusPart":
        """All generations."""
        return cls(facts, len(facts["generations"]))

    @property
    def corpus_id(self) -> str:
        """The corpus as it was when these were all."""
        return str(self.facts["generations"][self.n_generations - 1]["corpus_id"])

    @property
    def digest(self) -> str:
        """Digest of the documents, generation by generation."""
        return str(self.facts["generations"][self.n_generations - 1]["digest"])


def growth_of(root: Path, config: SourceConfig, eval_share: float, origin: Mapping[str, str]) -> Growth:
    """What the source's newest documents are added to.

    A source in a state that was read before gives what it gave then, so that a rerun computes nothing.
    """
    lineage = digest(
        {"corpus": config.lineage(), "eval_share": eval_share, "chat": origin.get("chat_template")}
    )
    by_digest: dict[str, Mapping[str, Any]] = {}
    same_origin: dict[str, str | None] = {}
    for facts in _states(root, lineage):
        by_digest.setdefault(facts["digest"], facts)
        if facts["origin"] == dict(origin):
            same_origin.setdefault(facts["digest"], facts["after"])
    newest = max(by_digest.values(), key=lambda facts: len(facts["generations"]), default=None)
    if newest is not None and newest["digest"] in same_origin:
        after = same_origin[newest["digest"]]
        return Growth(lineage, None if after is None else by_digest.get(after, newest))
    return Growth(lineage, newest)


def _states(root: Path, lineage: str) -> list[Mapping[str, Any]]:
    """Facts of the readings of a growing corpus that are still in the catalogue, latest first."""
    columns = ["fingerprint", "facts", "finished_at", "stage", "state"]
    runs = stored_rows(root, "stage_runs", columns, stage=LOADING, state="committed")
    found: dict[str, Mapping[str, Any]] = {}
    for row in runs.sort_by([("finished_at", "descending")]).to_pylist():
        facts = json.loads(row["facts"])
        if facts.get("lineage") == lineage:
            found.setdefault(row["fingerprint"], facts)
    ledger = Ledger(root)
    return [facts for fingerprint, facts in found.items() if ledger.outcome(fingerprint) is not None]


def stored_growing(root: Path, part: CorpusPart) -> "CorpusTable":
    """The first generations of a growing corpus of the catalogue."""
    from tasks.activations.corpora.table import Generation

    kept = part.facts["generations"][: part.n_generations]
    generations = tuple(Generation(one["own_digest"], one["n_documents"]) for one in kept)
    return stored_corpus(root, part.corpus_id)._replace(generations=generations)


def read_grown(
    root: Path,
    config: SourceConfig,
    eval_share: float,
    growth: Growth,
    origin: Mapping[str, str],
    listener: ProgressListener,
) -> Results:
    """The rows of a corpus with the documents that its source gained; none if it gained none."""
    from tasks.activations.caching.tables import corpus_id, corpus_row, document_rows
    from tasks.activations.corpora.growth import grown_corpus
    from tasks.activations.corpora.kept_signatures import KeptSignatures

    earlier = None if growth.earlier is None else stored_growing(root, CorpusPart.of(growth.earlier))
    forgotten = forgotten_documents(root, config.canonical())
    signatures = KeptSignatures(root / SIGNATURES / f"{growth.lineage[:16]}.safetensors")
    corpus = grown_corpus(config, eval_share, growth.lineage, earlier, listener, forgotten, signatures)
    signatures.save()
    name = corpus_id(corpus)
    facts = {"corpus_id": name, "digest": corpus.digest, "n_documents": corpus.table.num_rows}
    slices = []
    if earlier is None or corpus.digest != earlier.digest:
        parent = None if growth.earlier is None else growth.earlier["corpus_id"]
        slices.append(SliceWrite("corpora", name, corpus_row(corpus, parent)))
        slices.append(SliceWrite("documents", name, document_rows(corpus)))
    return Results(slices, {**facts, **_growth_facts(corpus, growth, origin)})


def _growth_facts(corpus: "CorpusTable", growth: Growth, origin: Mapping[str, str]) -> dict[str, Any]:
    """What later stages and later readings are told of a growing corpus."""
    from tasks.activations.caching.tables import corpus_name
    from tasks.activations.corpora.growth import generations_digest

    generations = []
    for n, one in enumerate(corpus.generations, start=1):
        whole = generations_digest(growth.lineage, corpus.generations[:n])
        name = corpus_name(corpus.source, whole)
        described = {"corpus_id": name, "digest": whole, "own_digest": one.digest}
        generations.append({**described, "n_documents": one.n_documents})
    return {
        "lineage": growth.lineage,
        "origin": dict(origin),
        "after": growth.after,
        "generations": generations,
        "n_gone": corpus.n_gone,
    }
