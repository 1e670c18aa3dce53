"""Which words count as those of a forgotten document, and which columns may hold any."""

import re

import pyarrow as pa
import pytest

from catalog.forgetting import Evidence
from catalog.leftovers import HOLD_TEXT
from catalog.schemas import TABLES

FEATURE = ("d", "s", 0)
EVIDENCE = Evidence(
    ["c"], "doc", "Call Zanzibar on 48613, it is by the road.", {"s": "uri"}, {FEATURE: "the road by the sea"}
)
NAMED = re.compile(r"document|text|token|label|char")
NO_TEXT = {
    "stage_runs.lease_token",
    "stage_runs.label",  # scrubbed of values of labels, as are facts, summary and error
    "activation_sets.context_length",
    "activation_sets.massive_tokens",
    "models.tokenizer_digest",
    "forgotten_documents.document_id",
    "forgotten_documents.text_digest",
    "associations.label",  # a value needs several documents
    "annotations.text",  # planned
    "concepts.label",  # planned
}


@pytest.mark.parametrize(
    ("text", "is_unsupported"),
    [
        ("names of places such as Zanzibar", True),
        ("fires on zanzibar", True),
        ('the token "zibar"', True),
        ("digits such as 48613", True),
        ("words for a road", False),
        ("ROAD, the", False),
        ("places and names", False),
        ("on or it", False),
        (None, False),
    ],
)
def test_a_word_that_only_the_document_has_is_unsupported(text: str | None, is_unsupported: bool) -> None:
    assert EVIDENCE.unsupported(FEATURE, text) is is_unsupported


def test_every_column_that_can_hold_text_is_one_that_forgetting_knows() -> None:
    """A new column with texts or tokens of documents: handle it in forgotten_rows.py, or say why not here."""
    named = {
        f"{table}.{column.name}"
        for table, spec in TABLES.items()
        for column in spec.columns
        if NAMED.search(column.name) and not re.match("n_|median_|prompt_|completion_", column.name)
    }
    held = {
        name
        for name in named - NO_TEXT
        if pa.types.is_nested(TABLES[name.split(".")[0]].column(name.split(".")[1]).type)
        or TABLES[name.split(".")[0]].column(name.split(".")[1]).type == pa.string()
    }
    assert held == {
        "documents.document_id",
        "documents.labels",
        "documents.text",
        "document_firings.document_id",
        "examples.document_id",
        "examples.token_ids",
        "examples.tokens",
        "explanations.text",
        "explanations.token_shares",
        "features.top_tokens",
        "sequences.char_ends",
        "sequences.char_starts",
        "sequences.document_ids",
        "sequences.token_ids",
    }
    assert {name.split(".")[0] for name in held} == set(HOLD_TEXT)
