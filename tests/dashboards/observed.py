"""A dictionary on a set other than its home, as a run commits it: half as dense, one feature with a label."""

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.rows import with_constants
from catalog.store import SliceWrite

LABEL = "the word “else” in the other model"
LABELLED = 5


def commit_observation(
    commit: Any,
    dictionary: str,
    activation_set: str,
    features: pa.Table,
    examples: pa.Table,
    explained: pa.Table,
) -> None:
    """Commit rows of the home as evidence of another set, where the label of feature 5 is newer."""
    ids = {"dictionary_id": dictionary, "activation_set_id": activation_set}
    subject = f"{dictionary} on {activation_set}"
    place = features.column_names.index("density")
    features = features.set_column(place, "density", pc.divide(features["density"], 2.0))
    commit(
        "mine_examples",
        subject,
        [
            SliceWrite("features", subject, with_constants(features, **ids)),
            SliceWrite("examples", subject, with_constants(examples, **ids)),
        ],
    )
    rows = explained.filter(pc.equal(explained["feature_index"], LABELLED)).slice(0, 1).to_pylist()
    later = {"created_at": rows[0]["created_at"] + timedelta(hours=1)}
    label = [{**rows[0], **ids, **later, "explanation_id": "elsewhere-5", "text": LABEL}]
    table = pa.Table.from_pylist(label, schema=explained.schema)
    commit("explain_features", subject, [SliceWrite("explanations", subject, table)])
