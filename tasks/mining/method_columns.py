"""Columns of ``features`` that only some methods or activation sets have; for the others they are null.

Shapes: L features.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tasks.dictionaries.families.crosscoder_family import Crosscoding
from tasks.measures.latent_scaling import latent_scaling
from tasks.mining.direct_feature_attribution import attention_columns
from tasks.mining.survey import Survey

if TYPE_CHECKING:
    from tasks.activations.models.language_model import LanguageModel
    from tasks.dictionaries.base import Dictionary
    from tasks.dictionaries.hookpoint_activations import HookpointActivations


def method_columns(
    dictionary: "Dictionary", survey: Survey, has_special_tokens: bool, schema: pa.Schema
) -> dict[str, pa.Array]:
    """The latents' columns from the dictionary, and those that follow from it and the firings.

    ``special_share`` is null without special tokens, ``selection_step`` unless latents are selected in
    steps; both are null for a feature that never fired.
    """
    statistics = survey.statistics
    fired_L = statistics.n_tokens_L > 0
    said = dictionary.feature_columns()
    columns = typed_columns(said, schema)
    if dictionary.nested_groups:
        parents_L = survey.coactivation.parents(np.asarray(said["feature_group"]))
        columns["parent_feature"] = pa.array(parents_L, pa.int32(), mask=parents_L < 0)
    if has_special_tokens:
        shares_L = statistics.special_sum_L / np.where(fired_L, statistics.sum_L, 1)
        columns["special_share"] = pa.array(shares_L, pa.float64(), mask=~fired_L)
    if dictionary.selects_in_steps:
        steps_L = statistics.step_sum_L / np.maximum(statistics.n_tokens_L, 1)
        columns["selection_step"] = pa.array(steps_L, pa.float64(), mask=~fired_L)
    return columns


def typed_columns(columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> dict[str, pa.Array]:
    """Plain values per feature as arrays of the types of the table."""
    return {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}


def columns_of_hookpoints(
    dictionary: "Dictionary", activations: "HookpointActivations", language_model: "LanguageModel"
) -> dict[str, list[Any]]:
    """What follows from the hookpoints that a dictionary reads.

    A crosscoder: which model a latent belongs to. A dictionary of ``attn_z``: its heads and their sources.
    """
    if isinstance(dictionary, Crosscoding):
        return dict(latent_scaling(dictionary, activations))
    reader: Any = activations.reads[0]
    if len(activations.reads) > 1 or activations.writes is not None:
        return {}
    return attention_columns(dictionary, language_model, reader.hookpoint, reader.tokens)
