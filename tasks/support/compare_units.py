"""The unit of a comparison, and how the sides of each kind are read from the catalogue."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from catalog.rows import with_constants
from catalog.slices import SliceWrite
from tasks.common.progress import ProgressListener
from tasks.observing.config import CompareConfig, ModelsComparison
from tasks.support.observed import Observed, observed_documents, stored_firings, stored_top_contexts
from tasks.support.policies import StageContext, UnitKey
from tasks.support.stored import open_sets, stored_dictionary

if TYPE_CHECKING:
    from tasks.observing.group_shifts import GroupCounts, Shifted

STAGE, VERSION = "compare_observations", 1


@dataclass(frozen=True)
class CompareUnit:
    """One dictionary on two sets, or on one set with two values of a label."""

    config: CompareConfig
    a: Observed
    b: Observed

    @property
    def label(self) -> str:
        return f"{self.a.facts['dictionary_id']} {self.config.name}"

    @property
    def key(self) -> UnitKey:
        """The identity of this comparison."""
        parents = [self.a.mined.fingerprint, self.b.mined.fingerprint]
        return UnitKey(STAGE, VERSION, self.label, self.config.canonical(), parents)

    def slice_of(self, table: pa.Table) -> SliceWrite:
        """The rows with the names of what is compared."""
        names = {"set_a": self.a.facts["activation_set_id"], "set_b": self.b.facts["activation_set_id"]}
        constants = {"comparison": self.config.name, "kind": self.config.kind}
        ids = {"dictionary_id": self.a.facts["dictionary_id"], **names, **constants}
        subject = f"{ids['dictionary_id']} on {names['set_a']} | {names['set_b']}: {self.config.name}"
        return SliceWrite("feature_shifts", subject, with_constants(table, **ids))


def shifts_of(context: StageContext, unit: CompareUnit, listener: ProgressListener) -> "Shifted":
    """The shifts of a comparison.

    Raises:
        UserError: when a side has too few documents, or the sides share no text.
    """
    from tasks.observing.group_shifts import check_sizes, group_shifts

    if unit.config.kind == "models":
        return _models(context, unit, unit.config, listener)
    a, b = _corpora(context, unit) if unit.config.kind == "corpora" else _groups(context, unit)
    sides = {unit.config.a: a.n_documents, unit.config.b: b.n_documents}
    check_sizes(unit.config.name, sides, unit.config.min_documents)
    return group_shifts(a, b, unit.config.min_documents)


def _models(
    context: StageContext, unit: CompareUnit, config: ModelsComparison, listener: ProgressListener
) -> "Shifted":
    from tasks.observing.model_shifts import model_shifts

    facts = unit.a.facts
    dictionary = stored_dictionary(context.root, facts, context.device)
    a, b = (open_sets(context.root, side.facts).as_read_by(dictionary).inputs for side in (unit.a, unit.b))
    contexts_a, contexts_b = (stored_top_contexts(context.root, side.facts) for side in (unit.a, unit.b))
    writes_its_input = facts["reads"] == facts["writes"] and a.d_in == dictionary.W_dec.shape[1]
    contexts = (contexts_a, contexts_b)
    return model_shifts(
        dictionary,
        (a, b),
        contexts,
        config,
        follows_stream=writes_its_input,
        listener=listener,
    )


def _groups(context: StageContext, unit: CompareUnit) -> "list[GroupCounts]":
    from tasks.observing.documents import label_columns
    from tasks.observing.group_shifts import count_groups

    facts = unit.a.facts
    documents, tokens_G = observed_documents(context.root, facts)
    if unit.config.kind == "labels":
        none = np.full(len(tokens_G), None, dtype=object)
        value_G = label_columns(documents["labels"]).get(unit.config.label, none)
        group_G = np.select([value_G == unit.config.a, value_G == unit.config.b], [0, 1], -1)
    else:
        generation_G = documents["generation"].to_numpy()
        group_G = (generation_G == generation_G.max()).astype(np.int64)
    firings = stored_firings(context.root, facts, documents)
    return count_groups(firings, group_G, tokens_G, unit.a.mined.facts["n_features"])


def _corpora(context: StageContext, unit: CompareUnit) -> "list[GroupCounts]":
    from tasks.observing.group_shifts import count_groups

    sides: list[GroupCounts] = []
    for side in (unit.a, unit.b):
        documents, tokens_G = observed_documents(context.root, side.facts)
        firings = stored_firings(context.root, side.facts, documents)
        n_features = side.mined.facts["n_features"]
        sides += count_groups(firings, np.zeros_like(tokens_G), tokens_G, n_features, n_groups=1)
    return sides
