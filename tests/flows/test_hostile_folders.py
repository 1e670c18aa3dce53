"""Folders that rows of a catalogue name: it can come from anybody, and nothing outside it is read."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.connection import connect
from catalog.errors import CatalogueError
from catalog.exports.saebench import write_saebench
from catalog.schemas import COMMON_COLUMNS, TABLES
from catalog.scrub import data_units
from catalog.slices import SliceWrite
from catalog.store import TableStore, publish_rows
from flows.commands.export import export_command
from flows.commands.upkeep import shard_units
from tasks.activations.reading.shard_files import CorruptShard, ShardRecord, read_index, write_index
from tasks.support.stored import open_sets, shards_folder, weights_folder

SECRET = "a secret of the person who opens the catalogue"
BLANKS = {"string": "x", "float": 1.0, "double": 1.0, "bool": True}
OUTSIDE: dict[str, Callable[[Path], str]] = {
    "above": lambda root: "../elsewhere",
    "above from inside": lambda root: "_blobs/../../elsewhere",
    "absolute": lambda root: str(root.parent / "elsewhere"),
    "link": lambda root: "_blobs/linked",
    "below a link": lambda root: "_blobs/linked/inner",
    "folder with a link": lambda root: "_blobs/holding",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder for a catalogue beside one that is none of its business."""
    elsewhere = tmp_path / "elsewhere"
    for folder in (elsewhere, elsewhere / "inner"):
        folder.mkdir()
        for name in ("cfg.json", "sae_weights.safetensors", "index.json", "meta.json"):
            (folder / name).write_text(json.dumps({"text": SECRET}))
    root = tmp_path / "catalogue"
    (root / "_blobs/holding").mkdir(parents=True)
    return root


def one_row(table: str, **values: object) -> SliceWrite:
    """A row whose other columns hold anything."""
    columns = [c for c in TABLES[table].columns if c.name not in COMMON_COLUMNS]
    nested = (pa.types.is_list, pa.types.is_map)
    blanks = {
        c.name: c.values[0]
        if c.values
        else []
        if any(is_(c.type) for is_ in nested)
        else BLANKS.get(str(c.type), 1)
        for c in columns
        if not c.nullable
    }
    row = {c.name: None for c in columns} | blanks | values
    return SliceWrite(table, "x", pa.Table.from_pylist([row], pa.schema([(c.name, c.type) for c in columns])))


def name_in_rows(root: Path, uri: str) -> None:
    publish_rows(
        root,
        [
            one_row("dictionaries", dictionary_id="d", activation_set_id="s", weights_uri=uri, reads=[]),
            one_row("activation_sets", activation_set_id="s", uri=uri),
            one_row("dictionary_metrics", dictionary_id="d", activation_set_id="s", metric="fvu"),
        ],
        fingerprint="f",
    )
    (root / "_blobs/linked").symlink_to(root.parent / "elsewhere")
    (root / "_blobs/holding/cfg.json").symlink_to(root.parent / "elsewhere/cfg.json")


def export_for_saebench(root: Path) -> None:
    with connect(root) as connection:
        write_saebench(root, connection, "d", root.parent / "out")


READERS: dict[str, Callable[[Path, str], object]] = {
    "weights of a stage": lambda root, uri: weights_folder(root, {"weights_uri": uri}),
    "shards of a training": lambda root, uri: shards_folder(root, {"uri": uri}),
    "sites": lambda root, uri: open_sets(root, {"reads": [{"uri": uri}], "writes": [{"uri": uri}]}),
    "export": lambda root, uri: export_command("saelens", "d", root.parent / "out", str(root)),
    "saebench": lambda root, uri: export_for_saebench(root),
    "scrub of weights": lambda root, uri: data_units(root),
    "scrub of shards": lambda root, uri: shard_units(TableStore(root)),
}


@pytest.mark.parametrize("place", OUTSIDE)
def test_no_reader_follows_a_row_out_of_the_catalogue(root: Path, place: str) -> None:
    uri = OUTSIDE[place](root)
    name_in_rows(root, uri)
    for name, reader in READERS.items():
        with pytest.raises(CatalogueError, match=r"not trusted|is reached through a link") as refusal:
            reader(root, uri)
        assert "\n" not in str(refusal.value), name
    assert not (root.parent / "out").exists() or not list((root.parent / "out").rglob("*.*"))
    faults = [fault for fault in TableStore(root).verify() if "not trusted" in fault or "a link" in fault]
    assert {fault.partition(":")[0].removeprefix("a file of ") for fault in faults} == {
        "dictionaries",
        "activation_sets",
    }


def test_a_folder_of_the_catalogue_is_opened(root: Path) -> None:
    assert weights_folder(root, {"weights_uri": "_blobs/real"}) == root / "_blobs/real"
    shutil.copytree(root.parent / "elsewhere", root / "_blobs/real")
    assert shards_folder(root, {"uri": "_blobs/real"}) == root / "_blobs/real"


@pytest.mark.parametrize("file", ["../../secret.npy", "/etc/passwd", "shard-00001.npy", "index.json"])
def test_an_index_names_its_own_shards(tmp_path: Path, file: str) -> None:
    record = ShardRecord(0, "shard-00000.npy", 0, 1, 1, "0", (), 0.0, 0)
    write_index(tmp_path, {0: record})
    assert read_index(tmp_path) == {0: record}
    write_index(tmp_path, {0: replace(record, file=file)})
    with pytest.raises(CorruptShard, match="not trusted"):
        read_index(tmp_path)
