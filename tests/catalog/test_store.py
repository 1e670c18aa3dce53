"""Publishing, reading, layout: what readers see and what lies on disk."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.connection import connect
from catalog.errors import CatalogueError
from catalog.ids import slug
from catalog.publish import publish_views, published_version
from catalog.slices import SliceWrite
from catalog.snapshot import newest_snapshot, publish_snapshot, read_snapshot
from catalog.store import TableStore, publish_rows


def rows(root: Path, sql: str) -> list[tuple[object, ...]]:
    with connect(root) as connection:
        return connection.execute(sql).fetchall()


def test_an_empty_catalogue_has_every_table(root: Path) -> None:
    assert rows(root, "select count(*) from feature_cards") == [(0,)]
    assert not root.exists(), "reading creates nothing"


def test_rows_of_a_subject_replace_each_other_and_no_others(root: Path, small: ModuleType) -> None:
    for run_id, state in (("a", "running"), ("b", "running"), ("a", "completed")):
        publish_rows(
            root, [SliceWrite("runs", run_id, small.run(run_id, state))], fingerprint=f"run {run_id}"
        )
    assert rows(root, "select run_id, state from runs order by 1") == [("a", "completed"), ("b", "running")]
    assert len(TableStore(root).history()) == 3
    old = connect(root, snapshot=read_snapshot(root, 1))
    assert old.execute("select run_id, state from runs").fetchall() == [("a", "running")]


def test_append_only_rows_are_added_once(root: Path, small: ModuleType) -> None:
    for generation in (0, 0, 1):
        write = SliceWrite("explanations", "d", small.explanations(generation))
        publish_rows(root, [write], fingerprint=f"f{generation}")
    assert rows(root, "select fingerprint, count(*) from explanations group by 1 order by 1") == [
        ("f0", 4),
        ("f1", 4),
    ]


def test_layout_of_a_partitioned_table(root: Path, small: ModuleType) -> None:
    table = small.examples(n_features=2_500, n_ranks=3)
    shuffled = table.take(pa.array(sorted(range(table.num_rows), key=lambda i: (i * 7919) % table.num_rows)))
    publish_rows(root, [SliceWrite("examples", small.DICTIONARY, shuffled)], fingerprint="f")
    store = TableStore(root)
    files = store.files("examples", dictionary_slug=slug(small.DICTIONARY), feature_block=1)
    (file,) = files
    assert len(store.files("examples")) == 3
    assert file.path.startswith(f"examples/dictionary_slug={slug(small.DICTIONARY)}/")
    with pq.ParquetFile(root / file.path, page_checksum_verification=True) as parquet:
        stored = parquet.read(["feature_index", "rank"])
        assert parquet.metadata.row_group(0).num_rows == 2_000
        assert parquet.metadata.row_group(0).column(0).compression == "ZSTD"
        assert parquet.schema_arrow.metadata[b"featlas.fingerprint"] == b"f"
    order = list(zip(*stored.to_pydict().values(), strict=True))
    assert order == sorted(order)
    assert {index // 1000 for index, _ in order} == {1}
    assert store.files("examples", feature_block=7) == []
    with pytest.raises(CatalogueError, match="not partitioned by rank"):
        store.files("examples", rank=1)


def test_a_stream_is_written_in_pieces_and_must_be_sorted(
    root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.slices.BUFFER_BYTES", 50_000)
    table = small.examples(n_features=1_500)
    write = SliceWrite("examples", "d", iter(table.to_batches(max_chunksize=333)))
    publish_rows(root, [write], fingerprint="f")
    assert rows(root, "select count(*), count(distinct feature_index) from examples") == [(3_000, 1_500)]
    backwards = table.take(pa.array(range(table.num_rows - 1, -1, -1))).to_batches(max_chunksize=333)
    with pytest.raises(CatalogueError, match="must come sorted by feature_index, band, rank"):
        publish_rows(root, [SliceWrite("examples", "d", iter(backwards))], fingerprint="g")
    blocks_again = [*table.to_batches(), *table.to_batches()]
    with pytest.raises(CatalogueError, match="came twice"):
        publish_rows(root, [SliceWrite("examples", "d", iter(blocks_again))], fingerprint="g")
    assert newest_snapshot(root).version == 1
    assert not list(root.rglob(".tmp-*"))


def test_an_empty_slice_clears_its_subject(root: Path, small: ModuleType) -> None:
    publish_rows(root, [SliceWrite("features", "d", small.features())], fingerprint="f")
    publish_rows(root, [SliceWrite("features", "d", small.features(n=0))], fingerprint="g")
    assert rows(root, "select count(*) from features") == [(0,)]
    assert TableStore(root).files("features") == []
    for run_id in ("a", "b"):
        publish_rows(root, [SliceWrite("runs", run_id, small.run(run_id))], fingerprint=run_id)
    publish_rows(root, [SliceWrite("runs", "a", small.run("a").slice(0, 0))], fingerprint="h")
    assert rows(root, "select run_id from runs") == [("b",)]


def test_an_unknown_table_is_named(root: Path) -> None:
    with pytest.raises(CatalogueError, match="there is no table 'nope'; tables are runs, stage_runs"):
        publish_rows(root, [SliceWrite("nope", "x", pa.table({"a": [1]}))], fingerprint="f")


def test_one_commit_takes_a_subject_once(root: Path, small: ModuleType) -> None:
    write = SliceWrite("features", "d", small.features())
    with pytest.raises(CatalogueError, match="given subject 'd' twice in one commit: join the rows"):
        publish_rows(root, [write, write], fingerprint="f")


def test_small_files_are_merged_as_they_gather(
    root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.changes.MERGE_AT", 4)
    for number in range(10):
        write = SliceWrite("annotations", "notes", _annotation(small, number))
        publish_rows(root, [write], fingerprint=f"f{number}")
    assert rows(root, "select count(*), count(distinct fingerprint) from annotations") == [(10, 10)]
    assert len(TableStore(root).files("annotations")) <= 5
    assert TableStore(root).verify(deep=True) == []


def _annotation(small: ModuleType, number: int) -> pa.Table:
    row = {
        "annotation_id": f"n{number}",
        "dictionary_id": small.DICTIONARY,
        "feature_index": 0,
        "author": "ada",
        "kind": "note",
        "text": "x",
        "created_at": small.NOW,
    }
    return small.table("annotations", [row])


def test_published_views_work_after_the_folder_moved(
    root: Path, tmp_path: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.do_stage(root)
    moved = tmp_path / "moved it's here"
    root.rename(moved)
    monkeypatch.chdir(moved)
    with duckdb.connect("catalogue.duckdb", read_only=True) as connection:
        assert connection.execute("select count(*) from feature_cards").fetchall() == [(4,)]
        assert connection.execute("select count(*) from concepts").fetchall() == [(0,)]
    monkeypatch.chdir(tmp_path)
    with duckdb.connect(str(moved / "catalogue.duckdb"), read_only=True) as connection:
        connection.execute(f"SET file_search_path = '{str(moved).replace(chr(39), chr(39) * 2)}'")
        assert connection.execute("select label from feature_cards where feature_index = 1").fetchall() == [
            ("word 1 of generation 0",)
        ]
    monkeypatch.chdir(moved)
    with duckdb.connect() as connection:
        connection.execute(Path("catalogue.sql").read_text())
        assert connection.execute("select count(*) from examples").fetchall() == [(8,)]
    assert str(tmp_path) not in Path("catalogue.sql").read_text()


def test_an_older_version_never_replaces_a_newer_one(root: Path, small: ModuleType) -> None:
    small.do_stage(root)
    small.do_stage(root, 1)
    assert published_version(root) == 2
    assert not publish_views(read_snapshot(root, 1))
    assert published_version(root) == 2
    with (root / "catalogue.sql").open() as file:
        assert file.readline() == "-- featlas catalogue version 2\n"


def test_a_writer_that_passed_the_lock_loses_no_table(root: Path, small: ModuleType) -> None:
    """The compare-and-swap holds by itself: the second writer rebases on the first."""
    base = newest_snapshot(root)
    small.do_stage(root)
    tables = dict(newest_snapshot(root).tables)
    late = publish_snapshot(base, {"features": 0}, "late", "late")
    assert late.version == 2
    assert late.tables == tables


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import small
for generation in range({n}):
    small.do_stage(Path({root!r}), generation, force=True)
"""


def test_two_writers_and_a_reader(root: Path, small: ModuleType) -> None:
    """Two processes replace the same subjects while a reader checks that nothing is torn."""
    small.do_stage(root)
    code = _WRITER.format(folder=str(Path(__file__).parent), root=str(root), n=3)
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    reads = 0
    while any(writer.poll() is None for writer in writers):
        with connect(root) as connection:
            found = connection.execute(
                "select count(*), count(distinct n_tokens), any_value(n_tokens) - 1, "
                "(select any_value(d_sae) - 8 from dictionaries), (select count(*) from examples) "
                "from features"
            ).fetchone()
        assert found is not None
        n_features, n_generations, generation, dictionary, n_examples = found
        assert (n_features, n_generations, n_examples) == (4, 1, 8)
        assert generation == dictionary
        reads += 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert reads > 0
    assert newest_snapshot(root).version == 7
    assert TableStore(root).verify() == []


def test_cursors_of_one_connection_keep_their_results_apart(root: Path, small: ModuleType) -> None:
    small.do_stage(root)
    connection = connect(root)
    wrong: list[object] = []

    def ask(nonce: int) -> None:
        for step in range(30):
            with connection.cursor() as cursor:
                found = cursor.execute(
                    "select $n, count(*) from features", {"n": nonce * 1000 + step}
                ).fetchall()
            if found != [(nonce * 1000 + step, 4)]:
                wrong.append(found)

    threads = [threading.Thread(target=ask, args=(nonce,)) for nonce in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_commit_file_names_one_version_per_table(root: Path, small: ModuleType) -> None:
    small.do_stage(root)
    content = json.loads((root / "_catalogue" / "1.json").read_bytes())
    assert content["version"] == 1
    assert content["previous"] == 0
    assert set(content["tables"]) >= {"features", "examples", "stage_runs", "slices"}


_READERS = """
import os
from pathlib import Path
import deltalake, duckdb, pyarrow.parquet
from catalog.delta_log import DeltaLog

root = Path({root!r})
for _ in range({n}):
    if os.fork() == 0:
        files = [str(root / file.path) for file in DeltaLog(root, "features").files(1)]
        print(duckdb.execute("select count(*) from read_parquet($files)", {{"files": files}}).fetchone())
        print(pyarrow.parquet.read_table(files[0], columns=["density"]).num_rows)
        break
    assert os.wait()[1] == 0
"""


@pytest.mark.parametrize("n", [8, pytest.param(50, marks=pytest.mark.faults)])
def test_an_interpreter_that_read_a_table_exits_cleanly(root: Path, small: ModuleType, n: int) -> None:
    small.do_stage(root)
    code = _READERS.format(root=str(root), n=n)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("(4,)") == n
