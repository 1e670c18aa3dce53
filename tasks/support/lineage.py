"""The dictionary that a training starts from: found in the catalogue, and checked before anything runs."""

from collections.abc import Sequence
from pathlib import Path

from catalog.errors import UserError
from catalog.ledger import StageOutcome
from tasks.dictionaries.config import DictionaryConfig, name_of_hookpoints
from tasks.support.catalogued import find_dictionaries
from tasks.support.stored import weights_folder

Hooks = Sequence[tuple[str, str]]
"""Model id and hookpoint of each activation set."""


def find_parent(root: Path, config: DictionaryConfig, reads: Hooks, writes: Hooks) -> StageOutcome | None:
    """The dictionary that ``init_from`` names for a training at some hookpoints; None without ``init_from``.

    Args:
        root: The catalogue.
        config: The dictionary to train. A name without a slash is the last part of an alias at the same
            hookpoints.
        reads: The hookpoints that it reads.
        writes: Those that it writes; the same if it reconstructs its input.

    Raises:
        UserError: one sentence, when there is no such dictionary, when there are several, when it belongs to
            other hookpoints, or when its weights are no start (`tasks.dictionaries.warm_start`).
    """
    from tasks.dictionaries.warm_start import check_start
    from tasks.dictionaries.weights import stored_settings

    name = config.starts_from
    if name is None:
        return None
    found = find_dictionaries(root, [name if "/" in name else f"{_prefix(reads, writes)}/{name}"])
    what = f"dictionary {config.name()!r} cannot start from {name!r}"
    if len(found) > 1:
        raise UserError(f"{what}, which matches {len(found)} dictionaries: name one of them")
    (parent,) = found
    theirs = [
        [(point["model_id"], point["hookpoint"]) for point in parent.facts[side]]
        for side in ("reads", "writes")
    ]
    if theirs != [list(reads), list(writes)]:
        raise UserError(
            f"{what}: that one belongs to {_told(*theirs)}, not to {_told(reads, writes)}; leave the model "
            "and the hookpoint out of init_from to start each from its own hookpoint"
        )
    settings, widths = stored_settings(weights_folder(root, parent.facts))
    check_start(config, settings, widths)
    return parent


def _prefix(reads: Hooks, writes: Hooks) -> str:
    """The first parts of an alias at these hookpoints."""
    models = "-and-".join(dict.fromkeys(model for model, _ in (*reads, *writes)))
    read, written = ([*dict.fromkeys(hookpoint for _, hookpoint in side)] for side in (reads, writes))
    return f"{models}/{name_of_hookpoints(read, written)}"


def _told(reads: Hooks, writes: Hooks) -> str:
    read, written = (", ".join(f"{hookpoint} of {model}" for model, hookpoint in s) for s in (reads, writes))
    return read if read == written else f"{read} to {written}"
