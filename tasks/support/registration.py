"""The rows of activation sets and dictionaries in the catalogue, and the facts that later stages read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.ids import canonical_json, digest, slug, tagged_id
from catalog.rows import rows_of
from catalog.schemas import Origin
from catalog.store import SliceWrite
from tasks.activations.hookpoint import transformer_lens_name
from tasks.support.policies import Results

if TYPE_CHECKING:
    from tasks.activations.caching.cache import CachedActivations
    from tasks.dictionaries.base import Dictionary

HookpointFacts = Sequence[Mapping[str, str]]
"""Hookpoints, each with model_id, hookpoint, activation_set_id and uri."""


def activation_set_results(
    model_id: str,
    corpus_id: str,
    fingerprint: str,
    cached: "CachedActivations",
    document_ids: pa.ChunkedArray,
) -> Results:
    """The rows and folders of a caching run, one activation set per hookpoint.

    Args:
        model_id: The language model.
        corpus_id: The texts.
        fingerprint: Of the caching run.
        cached: Its folders.
        document_ids: Ids of the documents, in the order in which the sets count them.
    """
    from tasks.activations.caching.tables import activation_set_row, sequence_rows

    slices: list[SliceWrite] = []
    folders: dict[str, Path] = {}
    sets: dict[str, dict[str, str]] = {}
    for hookpoint, folder in cached.folders.items():
        activation_set = cached.open(hookpoint)
        set_id = tagged_id(f"{model_id}/{hookpoint}", digest([fingerprint, hookpoint]))
        uri = f"_blobs/activations/{slug(set_id)}"
        row = activation_set_row(activation_set, set_id, corpus_id, uri)
        slices.append(SliceWrite("activation_sets", set_id, row))
        slices.append(SliceWrite("sequences", set_id, sequence_rows(activation_set, set_id, document_ids)))
        folders[uri] = folder
        sets[hookpoint] = {"activation_set_id": set_id, "uri": uri}
    return Results(slices, {"model_id": model_id, "corpus_id": corpus_id, "activation_sets": sets}, folders)


def weights_metadata(
    model_ids: Sequence[str], reads: Sequence[str], writes: Sequence[str] | None
) -> dict[str, str]:
    """What ``cfg.json`` says of where a dictionary belongs, in the names of SAELens."""
    names = {"model_name": " ".join(model_ids), "hook_name": " ".join(map(transformer_lens_name, reads))}
    if writes is not None:
        names["hook_name_out"] = " ".join(map(transformer_lens_name, writes))
    return names


def landing_facts(
    alias: str,
    fingerprint: str,
    *,
    reads: HookpointFacts,
    writes: HookpointFacts,
    hookpoints_name: str,
    corpus_id: str,
    parent_dictionary_id: str | None = None,
) -> dict[str, Any]:
    """Facts for later stages; evidence belongs to the first activation set that the dictionary reads.

    ``parent_dictionary_id`` is among them only if the training started from a dictionary.
    """
    dictionary_id = tagged_id(alias, fingerprint)
    lineage = {} if parent_dictionary_id is None else {"parent_dictionary_id": parent_dictionary_id}
    return {
        **lineage,
        "dictionary_id": dictionary_id,
        "alias": alias,
        "weights_uri": f"_blobs/dictionaries/{slug(dictionary_id)}",
        "reads": reads,
        "writes": writes,
        "place": hookpoints_name,
        "activation_set_id": reads[0]["activation_set_id"],
        "corpus_id": corpus_id,
    }


def dictionary_row(
    facts: Mapping[str, Any],
    dictionary: "Dictionary",
    weights_digest: str,
    *,
    origin: Origin,
    verified: bool,
    imported: Mapping[str, Any] | None = None,
) -> pa.Table:
    """The row of ``dictionaries``.

    Args:
        facts: See ``landing_facts``.
        dictionary: The saved dictionary.
        weights_digest: SHA-256 of its weights file.
        origin: trained, imported or baseline.
        verified: Whether its weights were checked against activations.
        imported: The file that it was read from and how, stored with its configuration.
    """
    names = ("dictionary_id", "alias", "weights_uri", "activation_set_id")
    hookpoints = {
        name: [{key: point[key] for key in ("model_id", "hookpoint")} for point in facts[name]]
        for name in ("reads", "writes")
    }
    config = dictionary.config.canonical()
    row = {
        **{name: facts[name] for name in names},
        **hookpoints,
        "unit_type": dictionary.unit_type,
        "architecture": dictionary.config.architecture,
        "d_in": dictionary.d_in,
        "d_sae": dictionary.d_sae,
        "config": canonical_json(config if imported is None else {**config, "imported": dict(imported)}),
        "weights_digest": weights_digest,
        "origin": origin,
        "verified": verified,
        "created_at": datetime.now(UTC),
        "parent_dictionary_id": facts.get("parent_dictionary_id"),
    }
    return rows_of("dictionaries", [row])
