"""Starting a training from the weights of another dictionary of the same hookpoints (``init_from``).

Weights alone are taken over. The optimiser, its schedule, the counts of dead latents and everything that a
method remembers between steps start as in a training from random weights.

Legend: D d_in, E d_out.
"""

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.dictionaries.base import ARCHITECTURES, Dictionary, build_dictionary
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.widths import Widths


def check_start(config: DictionaryConfig, parent: DictionaryConfig, widths: Widths) -> None:
    """Refuse a dictionary whose weights are no start for a training.

    Args:
        config: The dictionary to train; ``init_from`` names the parent.
        parent: Configuration of the dictionary to start from.
        widths: Widths of the activations of both.

    Raises:
        UserError: one sentence: a control that keeps its random decoder, a parent that normalises each
            input, another number of latents, or other parameters.
    """
    what = f"dictionary {config.name()!r} cannot start from {config.starts_from!r}"
    if not ARCHITECTURES[config.architecture].gradient.learns_decoder:
        raise UserError(f"{what}: a {config.architecture} keeps its random decoder, leave init_from out")
    if parent.input_norm != "none":
        raise UserError(
            f"{what}: that one normalises each input (token_norm {parent.input_norm}), which a training "
            "does not do: leave init_from out"
        )
    n_wanted, n_found = config.n_latents(widths.d_in), parent.n_latents(widths.d_in)
    if n_wanted != n_found:
        raise UserError(
            f"{what}: that one has {n_found:,} latents and {n_wanted:,} are wanted, so set d_sae to {n_found}"
        )
    if parent.architecture != config.architecture:
        _check_parameters(what, config, parent, widths)


def _check_parameters(what: str, config: DictionaryConfig, parent: DictionaryConfig, widths: Widths) -> None:
    mine, theirs = (_shapes(build_dictionary(one, widths)) for one in (config, parent))
    unequal = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if unequal:
        raise UserError(
            f"{what}: a {parent.architecture} and a {config.architecture} differ in {', '.join(unequal)}, so "
            f"name a {config.architecture}, or an architecture with the same parameters"
        )


def _shapes(dictionary: Dictionary) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in dictionary.named_parameters()}


@torch.no_grad()
def start_from(dictionary: Dictionary, parent: Dictionary, scale_in_D: Tensor, scale_out_E: Tensor) -> None:
    """Give a dictionary the weights of another one, in the units of its training.

    Stored weights map activations x to y; a training maps ``scale_in * x`` to ``scale_out * y``. Folding
    the inverse scales (`Dictionary.fold_scale`) converts from the first to the second. The parent changes.

    Raises:
        UserError: when the parameters of the two differ in name or shape.
    """
    if _shapes(dictionary) != _shapes(parent):
        raise UserError(
            f"dictionary {dictionary.config.name()!r} cannot start from {dictionary.config.starts_from!r}, "
            "which has other parameters: name a dictionary of the same architecture, settings and width"
        )
    parent.fold_scale(1 / scale_in_D, 1 / scale_out_E)
    weights = dict(parent.named_parameters())
    for name, parameter in dictionary.named_parameters():
        parameter.copy_(weights[name])
