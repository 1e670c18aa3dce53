"""Registration of a dictionary in the catalogue, trained or imported: its row, facts for later stages."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog.ids import canonical_json, slug, tagged_id
from catalog.rows import rows_of
from catalog.schemas import Origin

if TYPE_CHECKING:
    from tasks.dictionaries.base import Dictionary

Sites = Sequence[Mapping[str, str]]
"""Hookpoints, each with model_id, hookpoint, activation_set_id and uri."""


def landing_facts(
    alias: str, fingerprint: str, *, reads: Sites, writes: Sites, place: str, corpus_id: str
) -> dict[str, Any]:
    """Facts for later stages; evidence belongs to the first activation set that the dictionary reads."""
    dictionary_id = tagged_id(alias, fingerprint)
    return {
        "dictionary_id": dictionary_id,
        "alias": alias,
        "weights_uri": f"_blobs/dictionaries/{slug(dictionary_id)}",
        "reads": reads,
        "writes": writes,
        "place": place,
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
    sites = {
        name: [{key: site[key] for key in ("model_id", "hookpoint")} for site in facts[name]]
        for name in ("reads", "writes")
    }
    config = dictionary.config.canonical()
    row = {
        **{name: facts[name] for name in names},
        **sites,
        "unit_type": dictionary.unit_type,
        "architecture": dictionary.config.architecture,
        "d_in": dictionary.d_in,
        "d_sae": dictionary.d_sae,
        "config": canonical_json(config if imported is None else {**config, "imported": dict(imported)}),
        "weights_digest": weights_digest,
        "origin": origin,
        "verified": verified,
        "created_at": datetime.now(UTC),
    }
    return rows_of("dictionaries", [row])
