"""The evidence for labels: which features of a mined dictionary, in which order, each with its examples."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.damage import naming_damaged_files
from catalog.durable import replace_file
from catalog.ids import slug
from catalog.label_queue import chosen_features
from catalog.ledger import Claim
from catalog.store import TableStore
from tasks.support.policies import StageContext
from tasks.support.stored import document_labels, evidence_ids, evidence_subject, stored_rows

if TYPE_CHECKING:
    from tasks.autointerp.choice import ChoiceConfig
    from tasks.autointerp.records import FeatureEvidence

FEATURES_PER_BLOCK = 1_000
"""Features in a partition of ``examples``, as its column ``feature_block`` says."""
FEATURES_AT_ONCE = 128
"""Features whose examples are in memory at once when they are read by value: about 1 MB each at most."""
_NOTE = "chosen.json"


def example_blocks(
    root: Path, dictionary_id: str, activation_set_id: str, only: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """Examples of a dictionary on an activation set, one block of features at a time.

    Args:
        root: The catalogue.
        dictionary_id: A dictionary.
        activation_set_id: A set on which it was mined.
        only: Read the examples of these features alone.
    """
    snapshot = TableStore(root).snapshot()
    subject = slug(evidence_subject(dictionary_id, activation_set_id))
    files = snapshot.files("examples", dictionary_slug=slug(dictionary_id), subject=subject)
    by_block: dict[int, list[str]] = {}
    for file in files:
        by_block.setdefault(int(file.partition["feature_block"]), []).append(str(root / file.path))
    wanted = None if only is None else [("feature_index", "in", list(only))]
    blocks = by_block if only is None else by_block.keys() & {index // FEATURES_PER_BLOCK for index in only}
    for block in sorted(blocks):
        with naming_damaged_files(root, ["examples"]):
            rows = pq.read_table(by_block[block], partitioning=None, filters=wanted)
        yield rows


class Evidence(NamedTuple):
    """What a unit of work explains or scores."""

    features: "Iterator[FeatureEvidence]"
    """The features in the order to work on them, each with its examples."""
    n_firing: int
    """Features of the dictionary that fire on the set."""
    chosen: list[int] | None
    """The features in their order; None for all that fire, by index."""

    @property
    def n_features(self) -> int:
        """How many features it has."""
        return self.n_firing if self.chosen is None else len(self.chosen)

    @property
    def facts(self) -> dict[str, int]:
        """Facts of the stage: how many features fire, and on how many of them it works."""
        return {"n_firing": self.n_firing, "n_chosen": self.n_features}


def evidence_for(
    context: StageContext,
    claim: Claim,
    config: "ChoiceConfig",
    facts: Mapping[str, Any],
    table: str,
    among: Collection[int] | None = None,
) -> Evidence:
    """The features that a unit of work explains or scores, each with its examples.

    Args:
        context: The catalogue, and which stages are repeated on request.
        claim: The unit of work.
        config: Which features to choose.
        facts: Facts of the stage that mined the dictionary.
        table: Where the unit's rows go.
        among: Features to choose from, for example those with a text to judge; by default all that fire.
    """
    from tasks.autointerp.records import n_firing

    features = stored_rows(context.root, "features", **evidence_ids(facts))
    chosen = _chosen(context, claim, config, facts, table, among)
    return Evidence(_read(context.root, facts, features, chosen), n_firing(features), chosen)


def _read(
    root: Path, facts: Mapping[str, Any], features: pa.Table, chosen: Sequence[int] | None
) -> "Iterator[FeatureEvidence]":
    from tasks.autointerp.records import read_evidence

    ids: dict[str, Any] = dict(evidence_ids(facts))
    labels = document_labels(root, facts["corpus_id"])
    if chosen is None:
        yield from read_evidence(features, example_blocks(root, **ids), labels)
        return
    for start in range(0, len(chosen), FEATURES_AT_ONCE):
        part = list(chosen[start : start + FEATURES_AT_ONCE])
        rows = features.filter(pc.is_in(features["feature_index"], value_set=pa.array(part, pa.int32())))
        found = read_evidence(rows, example_blocks(root, **ids, only=part), labels)
        by_index = {one.feature_index: one for one in found}
        yield from (by_index[index] for index in part if index in by_index)


def _chosen(
    context: StageContext,
    claim: Claim,
    config: "ChoiceConfig",
    facts: Mapping[str, Any],
    table: str,
    among: Collection[int] | None,
) -> list[int] | None:
    """The features of a unit of work in order of value; None for all by index.

    A unit that is taken up again keeps its features: those that an earlier attempt chose, and those of which
    the catalogue has its rows.
    """
    if not config.chooses and config.endpoint_name is None:
        return None
    note = claim.scratch / _NOTE
    if note.is_file():
        return [int(index) for index in json.loads(note.read_text("utf-8"))]
    ids: dict[str, Any] = dict(evidence_ids(facts))
    best = chosen_features(context.root, **ids, where=config.where, order=config.order)
    if claim.request.stage not in context.forced:
        rows = stored_rows(context.root, table, ["feature_index"], fingerprint=claim.fingerprint)
        begun = set(rows["feature_index"].to_pylist())
        every = best if not begun else chosen_features(context.root, **ids, order=config.order)
        best = [index for index in every if index in begun] + [index for index in best if index not in begun]
    chosen = [index for index in best if among is None or index in among][: config.n_features]
    claim.scratch.mkdir(parents=True, exist_ok=True)
    replace_file(note, json.dumps(chosen).encode(), "chosen")
    return chosen
