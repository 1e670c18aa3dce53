"""The unit of an import, and the rows that it commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.ledger import Claim, StageOutcome
from catalog.rows import rows_of
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.config import name_of_hookpoints
from tasks.support.aliases import alias_write
from tasks.support.policies import Results, UnitKey
from tasks.support.registration import dictionary_row, landing_facts, weights_metadata
from tasks.support.stored import evidence_ids

if TYPE_CHECKING:
    from tasks.dictionaries.base import Dictionary
    from tasks.foreign.record import Foreign
    from tasks.foreign.sample import Hookpoints
    from tasks.foreign.source import ForeignSource

STAGE, VERSION = "import_dictionary", 1


@dataclass(frozen=True)
class ImportUnit:
    """A foreign dictionary with its certificate, and the activations of its hookpoints."""

    source: "ForeignSource"
    name: str
    """Last part of its alias."""
    hookpoints: "Hookpoints"
    models: tuple[ModelConfig, ...]
    """The models of the hookpoints, in their order."""
    cached: tuple[StageOutcome, ...]
    """One caching run of each model."""
    gated: StageOutcome

    @property
    def alias(self) -> str:
        models = "-and-".join(model.id for model in self.models)
        return f"{models}/{name_of_hookpoints(self.hookpoints.reads, self.hookpoints.writes)}/{self.name}"

    @property
    def label(self) -> str:
        return self.alias

    @property
    def key(self) -> UnitKey:
        """What makes this import itself."""
        config = {
            "name": self.name,
            "source": self.source.described(),
            "place": [list(self.hookpoints.reads), list(self.hookpoints.writes)],
        }
        parents = [*(cached.fingerprint for cached in self.cached), self.gated.fingerprint]
        return UnitKey(STAGE, VERSION, self.label, config, parents)

    def metadata(self, foreign: "Foreign") -> dict[str, Any]:
        """Metadata of ``cfg.json``: where it belongs, what its file says, its certificate."""
        return {
            **weights_metadata(
                [model.id for model in self.models], self.hookpoints.reads, self.hookpoints.writes
            ),
            "imported": {**self.source.described(), "file_says": dict(foreign.described), **foreign.remarks},
            "certificate": self.gated.facts["certificate"],
        }


def results_of(
    unit: ImportUnit, claim: Claim, dictionary: "Dictionary", weights_digest: str, folder: Path
) -> Results:
    """The rows and files of an imported dictionary."""
    from tasks.foreign.certificate import certificate_rows

    certificate = unit.gated.facts["certificate"]
    facts = landing_facts(
        unit.alias,
        claim.fingerprint,
        reads=_facts_of(unit, unit.hookpoints.reads),
        writes=_facts_of(unit, unit.hookpoints.writes),
        hookpoints_name=name_of_hookpoints(unit.hookpoints.reads, unit.hookpoints.writes),
        corpus_id=unit.cached[0].facts["corpus_id"],
    )
    row = dictionary_row(
        facts,
        dictionary,
        weights_digest,
        origin="imported",
        verified=bool(certificate["verified"]),
        imported=unit.source.described(),
    )
    figures = rows_of("dictionary_metrics", certificate_rows(certificate, evidence_ids(facts)))
    dictionary_id = facts["dictionary_id"]
    slices = [
        SliceWrite("dictionaries", dictionary_id, row),
        alias_write(unit.alias, dictionary_id),
        SliceWrite("dictionary_metrics", f"certificate of {dictionary_id}", figures),
    ]
    return Results(slices, facts, {facts["weights_uri"]: folder})


def _facts_of(unit: ImportUnit, hookpoints: Sequence[str]) -> list[dict[str, str]]:
    """All hookpoints of the first model, then those of the second if there is one."""
    return [
        {"model_id": model.id, "hookpoint": hookpoint, **cached.facts["activation_sets"][hookpoint]}
        for model, cached in zip(unit.models, unit.cached, strict=True)
        for hookpoint in hookpoints
    ]
