"""Mining in the catalogue: the rows it commits, and the earlier pass that it continues."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.ids import slug
from catalog.untrusted import blob_folder
from tasks.support.policies import Results
from tasks.support.stored import evidence_facts, evidence_slice, stored_rows

if TYPE_CHECKING:
    from tasks.mining.earlier_pass import Continued
    from tasks.mining.miner import Mined

MINING, VERSION = "mine_examples", 4


def mined_results(facts: Mapping[str, Any], mined: "Mined") -> Results:
    """The rows of four tables, and the folder that the pass over more documents goes on from."""
    rows = {
        "features": mined.features,
        "feature_neighbours": mined.neighbours,
        "examples": mined.examples,
        "document_firings": mined.by_document,
    }
    slices = [evidence_slice(table, facts, of_table) for table, of_table in rows.items()]
    told = {**evidence_facts(facts), **mined.counts}
    if mined.kept is None:
        return Results(slices, told)
    uri = _kept_uri(facts)
    return Results(slices, {**told, "kept": {"uri": uri, "n_tokens": mined.n_tokens}}, {uri: mined.kept})


def continued_mining(root: Path, facts: Mapping[str, Any], inputs: Any) -> "Continued | None":
    """How mining goes on from passes over fewer documents; None where no pass can be continued.

    That is so for a corpus that does not grow, and a dictionary that reads several hookpoints or context.

    Args:
        root: The catalogue.
        facts: Of the dictionary on the set.
        inputs: What the dictionary reads.
    """
    from tasks.activations.reading.shards import ActivationSet
    from tasks.mining.earlier_pass import Continued

    corpora = stored_rows(root, "corpora", ["n_generations"], corpus_id=facts["corpus_id"])
    if corpora["n_generations"].to_pylist() in ([], [None]) or not isinstance(inputs, ActivationSet):
        return None
    columns = ["facts", "stage", "state"]
    runs = stored_rows(root, "stage_runs", columns, stage=MINING, state="committed")["facts"].to_pylist()
    found = {
        told["kept"]["uri"]: int(told["kept"]["n_tokens"])
        for told in map(json.loads, runs)
        if "kept" in told and told["dictionary_id"] == facts["dictionary_id"]
    }
    found.pop(_kept_uri(facts), None)
    longest = sorted(found, key=lambda uri: -found[uri])
    folders = [blob_folder(root, uri, "the folder of an earlier pass") for uri in longest]
    there = tuple(folder for folder in folders if folder.is_dir())  # not of a set that lost a document
    return Continued(f"{facts['dictionary_id']} {VERSION}", there)


def _kept_uri(facts: Mapping[str, Any]) -> str:
    """Inside the folder of the set, so that it lives as long as the set."""
    return f"{facts['reads'][0]['uri']}/mined/{slug(facts['dictionary_id'])}"
