"""A catalogue with a dictionary whose features fire on one token each, ready to be explained."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.ledger import StageOutcome
from catalog.rows import with_constants
from catalog.schemas import TABLES
from catalog.slices import SliceWrite
from catalog.store import publish_rows
from tasks.support.stored import evidence_subject
from tests.tasks.autointerp.planted import distinct, features

IDS = {
    "dictionary_id": "pico-a/blocks.2.resid_post/topk-x8-k16-s0-00000000",
    "activation_set_id": "s-00000000",
}
MINED = "1" * 64


def mined(root: Path, n: int) -> StageOutcome:
    """Land ``n`` features with examples; returns what the mining stage would."""
    subject = evidence_subject(**IDS)
    tables = {"features": features(n), "examples": distinct(n)}
    writes = [SliceWrite(name, subject, _filled(name, table)) for name, table in tables.items()]
    publish_rows(root, writes, fingerprint=MINED)
    return StageOutcome(MINED, "mine_examples", True, facts={**IDS, "corpus_id": "c", "n_features": n})


def _filled(name: str, table: pa.Table) -> pa.Table:
    """``table`` with a plain value in every column that it lacks and that may not be null."""
    table = with_constants(table, **IDS)
    lacking = {
        column.name: _plain(column.type, column.values)
        for column in TABLES[name].columns
        if not column.nullable and column.name not in table.column_names
    }
    for left_out in ("fingerprint", "slice", "subject", "dictionary_slug", "feature_block"):
        lacking.pop(left_out, None)
    return with_constants(table, **lacking)


def _plain(kind: pa.DataType, values: tuple[str, ...]) -> Any:
    if pa.types.is_list(kind):
        return pa.scalar([], kind)
    return pa.scalar(values[0] if values else "x" if pa.types.is_string(kind) else 0).cast(kind)
