"""Verify names faults, repair fixes the effects of a power cut, vacuum deletes only unused files."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import duckdb
import pyarrow as pa
import pytest

from catalog.connection import connect, read
from catalog.delta_log import DeltaLog
from catalog.errors import CatalogueError
from catalog.schemas import TABLES
from catalog.slices import SliceWrite, stage_files
from catalog.snapshot import file_list_path, newest_snapshot
from catalog.store import TableStore, publish_rows


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("upkeep") / "catalogue"
    small.do_stage(root, 0)
    small.do_stage(root, 1)
    return root


@pytest.fixture
def catalogue(two_versions: Path, tmp_path: Path) -> Path:
    """A catalogue of two versions to damage."""
    return Path(shutil.copytree(two_versions, tmp_path / "catalogue"))


def sound(root: Path) -> list[str]:
    """Faults but for the weights' digest, which the small catalogue does not have."""
    return [fault for fault in TableStore(root).verify(deep=True) if "sae_weights" not in fault]


def generation(root: Path) -> list[tuple[int]]:
    with connect(root) as connection:
        return connection.execute("select distinct n_tokens - 1 from features").fetchall()


def entry(root: Path, table: str, back: int = 0) -> Path:
    version = newest_snapshot(root).tables[table] - back
    return DeltaLog(root, table).log_folder / f"{version:020d}.json"


def test_a_sound_catalogue_has_no_fault_and_nothing_to_repair(catalogue: Path) -> None:
    assert sound(catalogue) == []
    assert TableStore(catalogue).repair() == []


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("features", "zeroed"),
        ("features", "cut"),
        ("explanations", "gone"),
        ("slices", "zeroed"),
        ("explanations", "two zeroed"),
        ("slices", "all gone"),
    ],
)
def test_a_damaged_log_tail_is_rebuilt_from_what_was_acknowledged(
    catalogue: Path, table: str, damage: str, small: ModuleType
) -> None:
    newest = entry(catalogue, table)
    if damage == "zeroed":
        newest.write_bytes(b"")
    elif damage == "cut":
        newest.write_bytes(newest.read_bytes()[:-40])
    elif damage == "gone":
        newest.unlink()
    elif damage == "two zeroed":
        newest.write_bytes(b"")
        entry(catalogue, table, 1).write_bytes(b"")
    else:
        shutil.rmtree(newest.parent)
    assert any(table in fault for fault in TableStore(catalogue).verify())
    with pytest.raises(CatalogueError, match="featlas repair"):
        publish_rows(catalogue, small.writes(5), fingerprint="later")
    done = TableStore(catalogue).repair()
    assert any(table in line for line in done)
    assert sound(catalogue) == []
    assert generation(catalogue) == [(1,)]
    assert TableStore(catalogue).repair() == []
    assert small.do_stage(catalogue, 2)
    assert sound(catalogue) == []


@pytest.mark.parametrize("table", ["features", "explanations", "examples"])
def test_without_a_file_list_the_footers_tell(catalogue: Path, table: str) -> None:
    with connect(catalogue) as connection:
        before = connection.execute(f"select * from {table} order by all").fetchall()
    entry(catalogue, table).write_bytes(b"")
    file_list_path(catalogue, table, newest_snapshot(catalogue).tables[table]).unlink()
    TableStore(catalogue).repair()
    assert sound(catalogue) == []
    with connect(catalogue) as connection:
        assert connection.execute(f"select * from {table} order by all").fetchall() == before


@pytest.mark.parametrize("damage", ["emptied", "altered", "lost", "emptied with its copy"])
def test_a_damaged_catalogue_version_is_put_back_not_forgotten(catalogue: Path, damage: str) -> None:
    newest = catalogue / "_catalogue" / "2.json"
    if damage == "lost":
        newest.unlink()
    elif damage == "altered":
        newest.write_text(newest.read_text().replace('"features": 2', '"features": 1'))
    else:
        newest.write_bytes(b"")
    if damage == "emptied with its copy":
        (catalogue / "_catalogue" / "newest.json").write_bytes(b"{")
    with pytest.raises(CatalogueError, match="run `featlas repair`"):
        connect(catalogue)
    assert TableStore(catalogue).verify() != []
    with pytest.raises(CatalogueError, match="run `featlas repair`"):
        TableStore(catalogue).restore(1)
    expected = "rebuilt version 2" if damage == "emptied with its copy" else "put back version 2"
    assert any(expected in line for line in TableStore(catalogue).repair())
    assert generation(catalogue) == [(1,)]
    assert sound(catalogue) == []
    assert TableStore(catalogue).repair() == []


def test_a_damaged_checkpoint_is_only_a_short_cut(catalogue: Path) -> None:
    log = DeltaLog(catalogue, "features").log_folder
    (log / "_last_checkpoint").write_text('{"version": 1, "size": 3}')
    (log / f"{1:020d}.checkpoint.parquet").write_bytes(b"PAR1")
    TableStore(catalogue).repair()
    assert sound(catalogue) == []


def test_repair_names_data_that_is_gone(catalogue: Path) -> None:
    entry(catalogue, "features").write_bytes(b"")
    for path in (catalogue / "features").rglob("*.parquet"):
        path.unlink()
    done = TableStore(catalogue).repair()
    assert any("features/" in line and "is missing; its 4 rows are lost" in line for line in done)
    assert sound(catalogue) == []


def only_file(root: Path, table: str) -> Path:
    (file,) = TableStore(root).files(table)
    return root / file.path


def flip(path: Path, position: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "has 100 bytes, but"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8] + b"garbage!"), "no readable footer"),
    ],
)
def test_a_damaged_file_is_named(
    catalogue: Path, damage: Callable[[Path], None], message: str, small: ModuleType
) -> None:
    path = only_file(catalogue, "features")
    damage(path)
    faults = TableStore(catalogue).verify()
    assert any(message in fault and path.name in fault for fault in faults), faults
    with connect(catalogue) as connection:
        assert connection.execute("select count(*) from examples").fetchall() == [(8,)], "others still work"
        assert connection.execute("select count(*) from features").fetchall() == [(0,)]
        named = connection.execute("select table_name, path, rows from damaged_files").fetchall()
    assert named == [("features", path.relative_to(catalogue).as_posix(), 4)]
    assert small.do_stage(catalogue, 2), "other work goes on and takes the damaged file's place"
    assert sound(catalogue) == []


def test_every_flipped_bit_is_found(catalogue: Path) -> None:
    path = only_file(catalogue, "features")
    content = path.read_bytes()
    for step in range(20):
        flip(path, step / 20)
        assert any(path.name in fault for fault in TableStore(catalogue).verify(deep=True))
        path.write_bytes(content)
    assert sound(catalogue) == []


def test_rows_that_contradict_each_other_are_named(root: Path, small: ModuleType) -> None:
    features = small.features().to_pylist()
    features[0]["density"] = 1.5
    features[1]["status"] = "unseen"
    rows = small.table("features", features)
    explanation = small.explanations(n=1).to_pylist()
    explanation[0] |= {"status": "error"}
    publish_rows(
        root,
        [
            SliceWrite("features", "a", rows),
            SliceWrite("features", "b", small.features()),
            SliceWrite("explanations", "a", small.table("explanations", explanation)),
        ],
        fingerprint="f",
    )
    faults = TableStore(root).verify()
    for expected in (
        "features: 4 rows repeat a key (dictionary_id, activation_set_id, feature_index)",
        "features: 1 rows with a density outside 0 to 1",
        "features: 1 rows with a status that contradicts n_tokens",
        "explanations: 1 rows with a text that contradicts its status",
        "explanations: 1 rows with a failed explanation without an error",
        f"features: 8 rows name dictionary_id '{small.DICTIONARY}', which is not in dictionaries",
    ):
        assert expected in faults


def test_compact_keeps_the_rows_and_saves_files(catalogue: Path, small: ModuleType) -> None:
    for number in range(4):
        publish_rows(
            catalogue, [SliceWrite("runs", f"r{number}", small.run(f"r{number}"))], fingerprint=f"{number}"
        )
    store = TableStore(catalogue)
    names = [name for name in TABLES if store.files(name)]
    with connect(catalogue) as connection:
        before = {n: connection.execute(f"select * from {n} order by all").fetchall() for n in names}
    assert len(store.files("runs")) == 4
    store.compact()
    with connect(catalogue) as connection:
        assert {n: connection.execute(f"select * from {n} order by all").fetchall() for n in names} == before
    assert len(store.files("runs")) == 1
    assert sound(catalogue) == []
    version = store.snapshot().version
    assert store.compact().version == version, "nothing left to do"


def test_restore_brings_back_rows_and_the_need_to_do_them_again(catalogue: Path, small: ModuleType) -> None:
    TableStore(catalogue).restore(1)
    assert generation(catalogue) == [(0,)]
    assert sound(catalogue) == []
    assert small.do_stage(catalogue, 1)
    assert generation(catalogue) == [(1,)]
    with pytest.raises(CatalogueError, match="has no version 99"):
        TableStore(catalogue).restore(99)


def test_vacuum_takes_the_dead_and_leaves_the_living(catalogue: Path, small: ModuleType) -> None:
    store = TableStore(catalogue)
    old = {file.path for file in store.history()[1].files("features")}
    live = {file.path for file in store.files("features")}
    assert store.vacuum() == [], "everything is young"
    assert store.vacuum(keep_versions=2, older_than_seconds=-1) == []
    in_flight = stage_files(catalogue, SliceWrite("features", "other", small.features()), "f")
    age = time.time() - 100
    for path in catalogue.rglob("*.parquet"):
        os.utime(path, (age, age))
    for file in in_flight:
        os.utime(catalogue / file.path)
    deleted = set(store.vacuum(keep_versions=1, older_than_seconds=50))
    assert old <= deleted
    assert not live & deleted
    assert all((catalogue / file.path).exists() for file in in_flight)
    assert sound(catalogue) == []
    with pytest.raises(CatalogueError, match=r"has no version 1|are gone"):
        store.restore(1)


def test_vacuum_deletes_folders_nobody_names(catalogue: Path) -> None:
    orphan = catalogue / "_blobs" / "dictionaries" / "orphan"
    scratch = catalogue / "_scratch" / ("0" * 64)
    for folder in (orphan, scratch):
        folder.mkdir(parents=True)
    deleted = TableStore(catalogue).vacuum(older_than_seconds=-1)
    assert {"_blobs/dictionaries/orphan", f"_scratch/{'0' * 64}"} <= set(deleted)
    assert (catalogue / "_blobs" / "dictionaries" / "d").is_dir()
    assert (catalogue / "_blobs" / "activations" / "a").is_dir()


def test_a_file_of_an_older_schema_reads_with_null_columns(
    catalogue: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new column in version 2: old files lack it, a reader of version 1 does not see it."""
    from dataclasses import replace

    from catalog.schemas import Column

    spec = TABLES["annotations"]
    row = {
        "annotation_id": "old",
        "dictionary_id": small.DICTIONARY,
        "feature_index": 0,
        "author": "ada",
        "kind": "note",
        "text": "x",
        "created_at": small.NOW,
    }
    publish_rows(
        catalogue, [SliceWrite("annotations", "a", small.table("annotations", [row]))], fingerprint="1"
    )
    colour = Column("colour", pa.string(), "Colour of the note", nullable=True, since=2)
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "annotations", replace(spec, version=2, columns=(colour, *spec.columns)))
        new = small.table("annotations", [{**row, "annotation_id": "new", "colour": "red"}])
        publish_rows(catalogue, [SliceWrite("annotations", "b", new)], fingerprint="2")
        with connect(catalogue) as connection:
            found = connection.execute("select annotation_id, colour from annotations order by 1").fetchall()
        assert found == [("new", "red"), ("old", None)]
        assert sound(catalogue) == []
        TableStore(catalogue).compact()
        assert len(TableStore(catalogue).files("annotations")) == 1
        with connect(catalogue) as connection:
            again = connection.execute("select annotation_id, colour from annotations order by 1").fetchall()
        assert again == found
    with connect(catalogue) as connection:
        assert connection.execute("select annotation_id from annotations order by 1").fetchall() == [
            ("new",),
            ("old",),
        ]


def test_the_note_of_an_interrupted_commit_is_named_and_rolled_back(catalogue: Path) -> None:
    note = {"commit_id": "x", "base": 2, "fingerprint": "f", "tables": ["features"], "folders": []}
    (catalogue / "_catalogue" / "pending.json").write_text(json.dumps(note))
    assert any("interrupted commit" in fault for fault in TableStore(catalogue).verify())
    assert TableStore(catalogue).repair() == ["rolled back an interrupted commit"]
    assert sound(catalogue) == []


def test_a_reader_whose_files_were_vacuumed_asks_once_more(catalogue: Path, small: ModuleType) -> None:
    answers = []

    def ask(connection: duckdb.DuckDBPyConnection) -> int:
        answers.append(None)
        if len(answers) == 1:
            small.do_stage(catalogue, 2)
            TableStore(catalogue).vacuum(keep_versions=1, older_than_seconds=-1)
        found = connection.execute("select any_value(n_tokens) - 1 from features").fetchone()
        assert found is not None
        return int(found[0])

    assert read(ask, catalogue) == 2
    assert len(answers) == 2


def test_a_file_that_is_gone_for_good_is_left_out_and_named(catalogue: Path) -> None:
    def ask(connection: duckdb.DuckDBPyConnection) -> tuple[object, ...] | None:
        for path in (catalogue / "features").rglob("*.parquet"):
            path.unlink()
        connection.execute("select sum(n_tokens) from features").fetchall()
        return connection.execute("select table_name, reason from damaged_files").fetchone()

    assert read(ask, catalogue) == ("features", "is missing")


def test_a_read_only_disk_is_said_at_once_and_can_be_browsed(
    catalogue: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_FAULT", "lease.write:1:erofs")
    with pytest.raises(CatalogueError, match="Read-only file system; nothing was published"):
        small.do_stage(catalogue, 2)
    assert generation(catalogue) == [(1,)]
