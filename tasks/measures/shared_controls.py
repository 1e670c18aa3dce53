"""Controls of one hookpoint, fitted and measured once for all dictionaries of the same k and width.

The parts that depend only on the hookpoint, the ablations and the unmodified model, run once for all
dictionaries.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TypeVar

from catalog.ids import digest
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.measures.clean_runs import CleanRuns
from tasks.measures.controls import Controls
from tasks.measures.fidelity_sums import Fidelity

_Ablated = dict[str, Fidelity]
T = TypeVar("T")


class SharedControls:
    """The last few controls, by everything that determines them; nothing else is stored."""

    def __init__(self, n_kept: int = 4) -> None:
        self._kept: OrderedDict[str, Controls] = OrderedDict()
        self._ablated: OrderedDict[str, _Ablated] = OrderedDict()
        self._clean: OrderedDict[str, CleanRuns] = OrderedDict()
        self._n_kept = n_kept

    def of(
        self,
        activations: HookpointActivations,
        dictionary: Dictionary,
        k: int,
        config: EvaluationConfig,
        make: Callable[[], Controls],
    ) -> Controls:
        """The controls for a dictionary at its realised ``k``, computed unless they are known.

        Activations without a digest never count as equal to others.
        """
        digests = [
            getattr(reader, "meta", {}).get("digest") for reader in (*activations.reads, *activations.targets)
        ]
        if None in digests:
            return make()
        data = [digests, activations.writes is None, isinstance(dictionary, Crosscoding)]
        data += [str(dictionary.W_dec.device), config.canonical()]
        ablated = _newest(self._ablated, digest(data), dict, self._n_kept)
        clean = _newest(self._clean, digest(data), CleanRuns, 1)  # large: only of the last hookpoint
        key = digest([data, k, dictionary.d_sae])
        controls = _newest(self._kept, key, lambda: replace(make(), ablated=ablated), self._n_kept)
        return replace(controls, clean=clean)


@cache
def controls_of_process() -> SharedControls:
    """Controls that this process has measured; their key alone decides what they are."""
    return SharedControls()


def _newest(kept: OrderedDict[str, T], key: str, make: Callable[[], T], n_kept: int) -> T:
    """The value of a key, computed unless it is known; the least recently used ones are dropped."""
    if key not in kept:
        kept[key] = make()
    kept.move_to_end(key)
    while len(kept) > n_kept:
        kept.popitem(last=False)
    return kept[key]
