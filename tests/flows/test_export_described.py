"""An exported dictionary says what it was trained on, not just what its folder is called."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.schemas import COMMON_COLUMNS, TABLES
from catalog.slices import SliceWrite
from catalog.store import publish_rows
from flows.commands.export import described, public_names

_BLANK: dict[str, Any] = {"string": "x", "int32": 1, "int64": 1, "double": 1.0, "bool": True}


def one_row(table: str, **values: Any) -> pa.Table:
    """A row whose other columns hold anything."""
    columns = [c for c in TABLES[table].columns if c.name not in COMMON_COLUMNS]
    row = {c.name: None if c.nullable else _BLANK[str(c.type)] for c in columns} | values
    return pa.Table.from_pylist([row], schema=pa.schema([(c.name, c.type) for c in columns]))


def test_context_bos_texts_and_model_are_named(tmp_path: Path) -> None:
    slices = [
        SliceWrite(
            "activation_sets",
            "set",
            one_row(
                "activation_sets",
                activation_set_id="set",
                model_id="mine",
                corpus_id="parquet-1",
                context_length=128,
                bos="drop",
                packing="block",
            ),
        ),
        SliceWrite("corpora", "c", one_row("corpora", corpus_id="parquet-1", source="parquet", digest="d1")),
        SliceWrite("models", "m", one_row("models", model_id="mine", source="local", weights_digest="w1")),
    ]
    publish_rows(tmp_path, slices, fingerprint="f")
    found = described(tmp_path, {"dictionary_id": "dictionary", "activation_set_id": "set"})
    assert found["context_size"] == 128
    assert found["prepend_bos"] is True
    assert found["featlas_bos"] == "drop"
    assert found["dataset_path"] == "parquet-1"
    assert found["featlas_dataset_digest"] == "d1"
    assert found["featlas_model_weights_digest"] == "w1"
    assert found["featlas_model_source"] == "local"
    assert found["featlas_model_id"] == "mine"
    assert "featlas_model_revision" not in found


def test_models_are_named_as_others_find_them(tmp_path: Path) -> None:
    slices = [
        SliceWrite("models", "a", one_row("models", model_id="a", source="huggingface", location="org/name")),
        SliceWrite("models", "b", one_row("models", model_id="b", source="embedded")),
    ]
    publish_rows(tmp_path, slices, fingerprint="f")
    assert public_names(tmp_path, ["a", "b", "unknown"]) == ["org/name", "b", "unknown"]


def test_a_set_that_is_gone_leaves_the_ids(tmp_path: Path) -> None:
    found = described(tmp_path, {"dictionary_id": "dictionary", "activation_set_id": "gone"})
    assert found == {"featlas_dictionary_id": "dictionary", "featlas_activation_set_id": "gone"}
