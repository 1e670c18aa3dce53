"""Stage: put a foreign dictionary that passed the gate into the catalogue, like a trained one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.ids import canonical_json
from catalog.ledger import Claim, StageOutcome
from catalog.rows import rows_of
from catalog.store import SliceWrite
from tasks.activations.models.source import ModelConfig
from tasks.activations.models.translation import transformer_lens_name
from tasks.common.progress import ProgressListener
from tasks.dictionaries.config import place_name
from tasks.support.aliases import alias_write
from tasks.support.policies import Results, StageContext, UnitKey, run_unit, stage_task
from tasks.support.registration import dictionary_row, landing_facts

if TYPE_CHECKING:
    from tasks.foreign.record import Foreign
    from tasks.foreign.sample import Place
    from tasks.foreign.source import ForeignSource

STAGE, VERSION = "import_dictionary", 1
METRIC_VERSION = 1


@dataclass(frozen=True)
class ImportUnit:
    """A foreign dictionary with its certificate, and the activations of its hookpoints."""

    source: "ForeignSource"
    name: str
    """Last part of its alias."""
    place: "Place"
    models: tuple[ModelConfig, ...]
    """The models of the place, in its order."""
    cached: tuple[StageOutcome, ...]
    """One caching run of each model."""
    gated: StageOutcome

    @property
    def alias(self) -> str:
        models = "-and-".join(model.id for model in self.models)
        return f"{models}/{place_name(self.place.reads, self.place.writes)}/{self.name}"

    @property
    def label(self) -> str:
        return self.alias


@stage_task(STAGE)
def import_dictionary(context: StageContext, unit: ImportUnit) -> StageOutcome:
    """Convert weights and store the dictionary; facts: the same as those of a training."""
    config = {
        "name": unit.name,
        "source": unit.source.described(),
        "place": [list(unit.place.reads), list(unit.place.writes)],
    }

    def compute(claim: Claim, listener: ProgressListener) -> Results:
        import torch

        from tasks.dictionaries.weights import save_dictionary
        from tasks.foreign.assembly import assemble
        from tasks.foreign.reading import before_gain, first_reading

        placed = unit.source.read().with_(**unit.place._asdict())
        foreign = first_reading(placed, unit.source.reading)
        gated = unit.gated.facts
        if unit.source.reading.normalisation == "before_gain":
            foreign = before_gain(foreign, *map(torch.tensor, gated["norm"]))
        read_with = {name: gated[name] for name in ("scale", "token_norm")}
        dictionary = assemble(foreign.with_(site_scales=tuple(gated["site_scales"]), **read_with))
        facts = _facts(unit, claim.fingerprint)
        folder = claim.scratch / "dictionary"
        digest = save_dictionary(dictionary, folder, _metadata(unit, foreign))
        dictionary_id, certificate = facts["dictionary_id"], gated["certificate"]
        row = dictionary_row(
            facts,
            dictionary,
            digest,
            origin="imported",
            verified=bool(certificate["verified"]),
            imported=unit.source.described(),
        )
        slices = [
            SliceWrite("dictionaries", dictionary_id, row),
            alias_write(unit.alias, dictionary_id),
            SliceWrite(
                "dictionary_metrics", f"certificate of {dictionary_id}", certificate_rows(certificate, facts)
            ),
        ]
        return Results(slices, facts, {facts["weights_uri"]: folder})

    parents = [*(cached.fingerprint for cached in unit.cached), unit.gated.fingerprint]
    return run_unit(context, UnitKey(STAGE, VERSION, unit.label, config, parents), compute)


def certificate_rows(certificate: Mapping[str, Any], facts: Mapping[str, Any]) -> pa.Table:
    """The certificate as rows of ``dictionary_metrics``: figures as given, FVU of every other reading."""
    keys = {name: facts[name] for name in ("dictionary_id", "activation_set_id")}
    fixed = {**keys, "split": "eval", "n": certificate["figures"]["n"], "metric_version": METRIC_VERSION}
    return rows_of("dictionary_metrics", [{**row, **fixed} for row in _figures(certificate)])


def _figures(certificate: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    figures = certificate["figures"]
    control = None
    if certificate["random_fvu"] is not None:
        control = canonical_json({"random": certificate["random_fvu"]})
    for name in ("fvu", "l0", "unseen_share"):
        yield {
            "metric": f"import_{name}",
            "variant": "",
            "value": figures[name],
            "control": control if name == "fvu" else None,
            "note": certificate["reason"],
        }
    seen: set[str] = set()
    for tried in certificate["tried"]:
        variant = f"{tried['setting']}={tried['value']}"
        if variant not in seen:
            seen.add(variant)
            note = f"the same file read otherwise, L0 {tried['l0']:.4g}"
            yield {"metric": "import_fvu", "variant": variant, "value": tried["fvu"], "note": note}


def _facts(unit: ImportUnit, fingerprint: str) -> dict[str, Any]:
    return landing_facts(
        unit.alias,
        fingerprint,
        reads=_sites(unit, unit.place.reads),
        writes=_sites(unit, unit.place.writes),
        place=place_name(unit.place.reads, unit.place.writes),
        corpus_id=unit.cached[0].facts["corpus_id"],
    )


def _sites(unit: ImportUnit, hookpoints: Sequence[str]) -> list[dict[str, str]]:
    """All hookpoints of the first model, then those of the second if there is one."""
    return [
        {"model_id": model.id, "hookpoint": hookpoint, **cached.facts["activation_sets"][hookpoint]}
        for model, cached in zip(unit.models, unit.cached, strict=True)
        for hookpoint in hookpoints
    ]


def _metadata(unit: ImportUnit, foreign: "Foreign") -> dict[str, Any]:
    return {
        "model_name": " ".join(model.id for model in unit.models),
        "hook_name": " ".join(map(transformer_lens_name, unit.place.reads)),
        "hook_name_out": " ".join(map(transformer_lens_name, unit.place.writes)),
        "imported": {**unit.source.described(), "file_says": dict(foreign.described), **foreign.remarks},
        "certificate": unit.gated.facts["certificate"],
    }
