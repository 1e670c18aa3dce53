"""The hookpoints of a model that were cached in the same pass as those that a dictionary reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.activations.hookpoint import Hookpoint
from tasks.support.stored import shards_folder, stored_rows

if TYPE_CHECKING:
    from tasks.evaluation.suite import Layer


class LayerSet(NamedTuple):
    """An activation set with the position of its hookpoint in the model."""

    depth: tuple[int, int]
    hookpoint: str
    activation_set_id: str
    uri: str


def layer_sets(root: Path, facts: Mapping[str, Any]) -> list[LayerSet]:
    """Activation sets with the tokens of the dictionary's own, in the order of the model.

    Args:
        root: The catalogue.
        facts: ``reads`` of a dictionary on a set. A dictionary that reads several models has none. Outputs
            of modules are left out, because their position in the model is unknown.
    """
    reads = facts["reads"]
    if len({point["model_id"] for point in reads}) != 1:
        return []
    own = stored_rows(
        root, "activation_sets", ["fingerprint"], activation_set_id=reads[0]["activation_set_id"]
    )
    columns = ["hookpoint", "activation_set_id", "uri"]
    found = []
    for fingerprint in own["fingerprint"].to_pylist()[:1]:
        for row in stored_rows(root, "activation_sets", columns, fingerprint=fingerprint).to_pylist():
            hookpoint = Hookpoint.parse(row["hookpoint"])
            if hookpoint.depth is not None:
                found.append(LayerSet(hookpoint.depth, **row))
    return sorted(found)


def open_layers(root: Path, sets: list[LayerSet]) -> "list[Layer]":
    """The sets with their hookpoints."""
    from tasks.activations.reading.shards import ActivationSet
    from tasks.evaluation.suite import Layer

    return [Layer(one.hookpoint, ActivationSet.open(shards_folder(root, one._asdict()))) for one in sets]
