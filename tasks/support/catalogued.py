"""Finds dictionaries that are in the catalogue, trained by any pipeline or imported."""

import json
from collections.abc import Sequence
from pathlib import Path

from catalog.connection import read
from catalog.errors import CatalogueError
from catalog.ledger import Ledger, StageOutcome
from catalog.resolve import resolve_dictionaries
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.config import DictionaryConfig
from tasks.support.stored import stored_rows


def find_dictionaries(root: Path, patterns: Sequence[str]) -> list[StageOutcome]:
    """The outcomes of the stages that stored some dictionaries, as if this run had trained or imported them.

    Args:
        root: The catalogue.
        patterns: Aliases, ids or globs, see `catalog.resolve.resolve_dictionaries`. An alias refers to the
            dictionary that it was last assigned to.

    Returns:
        Each dictionary once, pattern by pattern, within one pattern by alias.

    Raises:
        UserError: for a pattern that names no dictionary, with the closest names.
        CatalogueError: when the record of how a dictionary was stored is lost.
    """
    ids = read(lambda connection: resolve_dictionaries(connection, patterns), root)
    rows = stored_rows(root, "dictionaries", ["dictionary_id", "fingerprint"]).to_pylist()
    fingerprints = {row["dictionary_id"]: row["fingerprint"] for row in rows}
    return [_landing(root, dictionary_id, fingerprints[dictionary_id]) for dictionary_id in ids]


def without_controls(root: Path, landed: Sequence[StageOutcome]) -> list[StageOutcome]:
    """The dictionaries whose architecture is no control; one of an unknown architecture is none."""
    from tasks.dictionaries.base import ARCHITECTURES

    rows = stored_rows(root, "dictionaries", ["dictionary_id", "architecture"]).to_pylist()
    controls = {
        row["dictionary_id"]
        for row in rows
        if row["architecture"] in ARCHITECTURES and ARCHITECTURES[row["architecture"]].Config.is_control
    }
    return [one for one in landed if one.facts["dictionary_id"] not in controls]


def _landing(root: Path, dictionary_id: str, fingerprint: str) -> StageOutcome:
    outcome = Ledger(root).outcome(fingerprint)
    if outcome is None:
        raise CatalogueError(
            f"the record of how {dictionary_id} was stored is lost: run `featlas repair`, then its pipeline "
            "again"
        )
    return outcome


def stored_settings(root: Path, outcome: StageOutcome) -> tuple[DictionaryConfig, int]:
    """How a dictionary of the catalogue was trained, and the numbers per token that it reads."""
    (row,) = stored_rows(
        root, "dictionaries", ["config", "d_in"], dictionary_id=outcome.facts["dictionary_id"]
    ).to_pylist()
    config = json.loads(row["config"])
    config.pop("imported", None)
    return dictionary_config(config), int(row["d_in"])
