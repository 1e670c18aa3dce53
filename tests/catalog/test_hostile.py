"""A catalogue made by somebody else: what its files say moves, deletes and reads nothing outside itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog.commit import read_note
from catalog.connection import connect
from catalog.delta_log import DeltaLog
from catalog.errors import CatalogueError
from catalog.ids import digest
from catalog.snapshot import file_list_path, kept_file_list, newest_snapshot, read_snapshot
from catalog.store import TableStore, publish_rows
from catalog.untrusted import data_file, folder_move, inside, table_name

STRANGE = ("[]", "{}", "null", '[["a"]]', "", "[" * 100_000)
STRANGE_TEXTS = (*STRANGE, "3", '"x"', "[[]]", "[{}]", "{", "\x00" * 40, "9" * 5_000, '{"version": 1e999}')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "catalogue"
    small.do_stage(root, 0)
    return root


@pytest.fixture
def catalogue(made: Path, tmp_path: Path) -> Path:
    """A catalogue to damage, next to a folder outside it."""
    thesis = tmp_path / "my-thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("years of work")
    return Path(shutil.copytree(made, tmp_path / "catalogue"))


def untouched(catalogue: Path) -> bool:
    thesis = catalogue.parent / "my-thesis"
    return [path.name for path in thesis.iterdir()] == ["chapter1.tex"]


def note(catalogue: Path, move: dict[str, str], **other: Any) -> None:
    content = {
        "commit_id": newest_snapshot(catalogue).commit_id,
        "base": 0,
        "fingerprint": "f",
        "tables": [],
        "folders": [move],
        **other,
    }
    (catalogue / "_catalogue/pending.json").write_text(json.dumps(content))


MOVES = (
    {"from": "x", "to": "y", "aside": "../my-thesis"},
    {"from": "_scratch/a/b", "to": "_blobs/d", "aside": "_blobs/../../my-thesis"},
    {"from": "../my-thesis", "to": "_blobs/d", "aside": "_blobs/d.old-01234567"},
    {"from": "_scratch/a", "to": "../my-thesis", "aside": "../my-thesis.old-01234567"},
    {"from": "_scratch/a", "to": "features", "aside": "features.old-01234567"},
    {"from": "_scratch/a", "to": "_blobs/x", "aside": "_blobs/dictionaries"},
    {"from": "_scratch/a", "to": "_blobs/link", "aside": "_blobs/link.old-01234567"},
    {"from": "_scratch/a", "to": "_blobs/link/x", "aside": "_blobs/link/x.old-01234567"},
)


@pytest.mark.parametrize("move", MOVES, ids=lambda move: str(move["aside"]))
@pytest.mark.parametrize("committed", [True, False])
def test_a_note_moves_only_what_a_commit_would(
    catalogue: Path, move: dict[str, str], committed: bool, small: ModuleType
) -> None:
    (catalogue / "_blobs/link").symlink_to(catalogue.parent / "my-thesis")
    note(catalogue, move, **({} if committed else {"commit_id": "another"}))
    before = sorted(path for path in catalogue.rglob("*"))
    with pytest.raises(CatalogueError, match=r"not trusted|link"):
        publish_rows(catalogue, small.writes(1), fingerprint="f")
    assert {path for path in before if "_catalogue" not in path.parts} <= set(catalogue.rglob("*"))
    (catalogue / "_blobs/link").unlink()
    done = TableStore(catalogue).repair()
    assert "link" in move["to"] or any("pending.json aside" in line for line in done)
    assert untouched(catalogue)
    assert small.do_stage(catalogue, 1)


@pytest.mark.parametrize("text", STRANGE, ids=lambda text: text[:8])
@pytest.mark.parametrize("name", ["pending.json", "1.json", "newest.json", "files/features/{n}.json"])
def test_a_file_that_holds_something_else_costs_one_sentence(
    catalogue: Path, name: str, text: str, small: ModuleType
) -> None:
    number = newest_snapshot(catalogue).tables["features"]
    (catalogue / "_catalogue" / name.format(n=number)).write_text(text)

    def features() -> int:
        with connect(catalogue) as connection:
            return len(connection.execute("select * from features").fetchall())

    readable = name != "1.json"
    if readable:
        assert features() == 4
    else:
        with pytest.raises(CatalogueError, match="run `featlas repair`"):
            features()
    TableStore(catalogue).verify()
    TableStore(catalogue).repair()
    assert features() == 4
    assert [fault for fault in TableStore(catalogue).verify() if "sae_weights" not in fault] == []


@pytest.mark.parametrize("text", STRANGE_TEXTS, ids=lambda text: text[:8])
def test_no_content_is_a_traceback(text: str, tmp_path: Path) -> None:
    lists = file_list_path(tmp_path, "runs", 0)
    lists.parent.mkdir(parents=True)
    for path in (tmp_path / "_catalogue/1.json", tmp_path / "_catalogue/pending.json", lists):
        path.write_text(text)
    assert kept_file_list(tmp_path, "runs", 0) == ([] if text == "[]" else None)
    for read in (lambda: read_snapshot(tmp_path, 1), lambda: read_note(tmp_path)):
        with pytest.raises(CatalogueError, match="run `featlas repair`"):
            read()


@pytest.mark.parametrize(
    "path",
    [
        "features/../../my-thesis/v1-00000000-{sha}.parquet",
        "/etc/v1-00000000-{sha}.parquet",
        "features/subject=../v1-00000000-{sha}.parquet",
        "features/subject=a*/v1-00000000-{sha}.parquet",
        "features/v1-00000000-{sha}.parquet",
        "features/subject=a/secret.parquet",
        "explanations/v1-00000000-{sha}.parquet",
    ],
)
@pytest.mark.parametrize("where", ["list", "log"])
def test_a_path_that_leads_elsewhere_is_refused(catalogue: Path, path: str, where: str) -> None:
    path = path.format(sha="0" * 64)
    snapshot = newest_snapshot(catalogue)
    number = snapshot.tables["features"]
    kept = file_list_path(catalogue, "features", number)
    entries = [[path, 4, 100, {"subject": "a"}]]
    if where == "list":
        kept.write_text(json.dumps(entries))
        _rewrite_newest(catalogue, {"features": digest(entries)})
    else:
        kept.unlink()
        entry = DeltaLog(catalogue, "features").log_folder / f"{number:020d}.json"
        lines = [json.loads(line) for line in entry.read_text().splitlines()]
        for line in lines:
            if "add" in line:
                line["add"]["path"] = path.removeprefix("features/")
        entry.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    with pytest.raises(CatalogueError, match="not a data file of table features; not trusted"):
        snapshot.files("features")
    assert any("not trusted" in fault for fault in TableStore(catalogue).verify())
    assert untouched(catalogue)


def _rewrite_newest(catalogue: Path, lists: dict[str, str]) -> None:
    """What somebody who knows the format can do: the checksum is against damage, not against people."""
    for name in ("1.json", "newest.json"):
        path = catalogue / "_catalogue" / name
        content = json.loads(path.read_text())
        content.pop("checksum")
        content["lists"] |= lists
        path.write_text(json.dumps({**content, "checksum": digest(content)}))


LINKS: dict[str, Callable[[Path], Path]] = {
    "table": lambda root: root / "features",
    "log": lambda root: root / "features/_delta_log",
    "blobs": lambda root: root / "_blobs",
    "kind of blobs": lambda root: root / "_blobs/dictionaries",
    "lists": lambda root: root / "_catalogue/files",
    "scratch": lambda root: root / "_scratch",
}


@pytest.mark.parametrize("place", LINKS)
def test_nothing_is_written_or_deleted_through_a_link(catalogue: Path, place: str, small: ModuleType) -> None:
    link = LINKS[place](catalogue)
    elsewhere = catalogue.parent / "elsewhere"
    if link.exists():
        link.rename(elsewhere)
    else:
        elsewhere.mkdir()
    (elsewhere / "old").mkdir()
    (elsewhere / "old" / "data.parquet").write_text("mine")
    link.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    for ask in (
        lambda: publish_rows(catalogue, small.writes(1), fingerprint="f"),
        lambda: TableStore(catalogue).vacuum(keep_versions=1, older_than_seconds=-1),
        TableStore(catalogue).repair,
        TableStore(catalogue).compact,
    ):
        with pytest.raises(CatalogueError, match="is reached through a link"):
            ask()
    assert [path for path in before if not path.exists()] == []


@pytest.mark.parametrize("name", ["../x", "", "a/b", "A", "_catalogue", 3, None, "a" * 200, "features\n"])
def test_table_names(name: object, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="names a table"):
        table_name(name, tmp_path)


@pytest.mark.parametrize(
    "path", ["..", "a/../b", "/a", "a//b", "", ".", "a\x00", "a\\b", None, 3, ["a"], "*"]
)
def test_relative_paths(path: object, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="not below the catalogue"):
        inside(tmp_path, path, "folder")


@pytest.mark.parametrize("value", [None, [], {}, {"to": "a"}, {"to": 1, "from": 2, "aside": 3}])
def test_moves(value: object, tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="not trusted"):
        folder_move(tmp_path, value, tmp_path)


@pytest.mark.parametrize("rows", [-1, True, "3", None, 1.5, 2**70])
def test_counts(rows: object, tmp_path: Path) -> None:
    path = f"runs/v1-00000000-{'0' * 64}.parquet"
    assert data_file(path, 1, 1, {}, table="runs", where=tmp_path).rows == 1
    with pytest.raises(CatalogueError, match="in place of a number"):
        data_file(path, rows, 1, {}, table="runs", where=tmp_path)
