"""Every table of the catalogue: columns with types and meaning, key, partitions, order.

One file per group of tables; the data dictionary in ``catalog/README.md`` is generated from them. A changed
table gets a new ``version`` once a release (``tests/catalog/freeze_tables.py`` freezes it). All timestamps
are UTC; every row carries the ``fingerprint`` of the stage run that produced it.
"""

from catalog.schemas.activations import ACTIVATIONS
from catalog.schemas.bands import (
    DEFAULT_BANDS,
    NEIGHBOUR_BAND,
    RANDOM_BAND,
    SILENT_BANDS,
    TOP_BAND,
    firing_bands,
    quantile_bands,
    quantile_number,
)
from catalog.schemas.bookkeeping import BOOKKEEPING
from catalog.schemas.dictionaries import DICTIONARIES
from catalog.schemas.features import FEATURES
from catalog.schemas.labels import LABELS
from catalog.schemas.matches import MATCHES
from catalog.schemas.observations import OBSERVATIONS
from catalog.schemas.spec import BIN, COMMON_COLUMNS, HOOK, LOGIT, NEIGHBOUR, QUANTILE, Column, TableSpec
from catalog.schemas.values import (
    AnsweredBy,
    CallOutcome,
    ComparisonKind,
    ConceptEvent,
    ExampleSplit,
    ExplanationStatus,
    FeatureStatus,
    Geometry,
    Negatives,
    Origin,
    RunState,
    Split,
    StageState,
    UnitType,
    Verdict,
)

__all__ = [
    "BIN",
    "COMMON_COLUMNS",
    "DEFAULT_BANDS",
    "FEATURES_PER_BLOCK",
    "HOOK",
    "LOGIT",
    "NEIGHBOUR",
    "NEIGHBOUR_BAND",
    "QUANTILE",
    "RANDOM_BAND",
    "SILENT_BANDS",
    "TABLES",
    "TOP_BAND",
    "AnsweredBy",
    "CallOutcome",
    "Column",
    "ComparisonKind",
    "ConceptEvent",
    "ExampleSplit",
    "ExplanationStatus",
    "FeatureStatus",
    "Geometry",
    "Negatives",
    "Origin",
    "RunState",
    "Split",
    "StageState",
    "TableSpec",
    "UnitType",
    "Verdict",
    "feature_block",
    "firing_bands",
    "quantile_bands",
    "quantile_number",
]

FEATURES_PER_BLOCK = 1_000

TABLES: dict[str, TableSpec] = {
    table.name: table
    for table in (*BOOKKEEPING, *ACTIVATIONS, *DICTIONARIES, *FEATURES, *OBSERVATIONS, *LABELS, *MATCHES)
}


def feature_block(feature_index: int) -> int:
    """The partition of ``examples`` that holds a feature."""
    return feature_index // FEATURES_PER_BLOCK
