"""Controls of one hookpoint, fitted and measured once for all dictionaries of the same k and width."""

from collections import OrderedDict
from collections.abc import Callable

from catalog.ids import digest
from tasks.dictionaries.base import Dictionary
from tasks.dictionaries.coding.crosscoding import Crosscoding
from tasks.dictionaries.config import EvaluationConfig
from tasks.dictionaries.measures.controls import Controls
from tasks.dictionaries.sites import SiteActivations


class SharedControls:
    """The last few controls, by everything that decides them; nothing else is kept."""

    def __init__(self, n_kept: int = 4) -> None:
        self._kept: OrderedDict[str, Controls] = OrderedDict()
        self._n_kept = n_kept

    def of(
        self,
        sites: SiteActivations,
        dictionary: Dictionary,
        k: int,
        config: EvaluationConfig,
        make: Callable[[], Controls],
    ) -> Controls:
        """The controls for a dictionary at its realised ``k``, made unless they are known.

        Activations that do not say their digest are never taken for others.
        """
        digests = [getattr(site, "meta", {}).get("digest") for site in (*sites.reads, *sites.targets)]
        if None in digests:
            return make()
        place = [digests, sites.writes is None, isinstance(dictionary, Crosscoding)]
        settings = [k, dictionary.d_sae, str(dictionary.W_dec.device), config.canonical()]
        key = digest([place, settings])
        if key not in self._kept:
            self._kept[key] = make()
        self._kept.move_to_end(key)
        while len(self._kept) > self._n_kept:
            self._kept.popitem(last=False)
        return self._kept[key]
