"""Every kind of file of a small catalogue, damaged in every way: it works or costs one sentence.

Readers, the next commit and the checks never end in a traceback, ``repair`` makes the catalogue sound, and
what was lost is done again; nothing is ever doubled or taken from two generations.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from duckdb import DuckDBPyConnection

from catalog.connection import connect, read
from catalog.errors import CatalogueError
from catalog.schemas import TABLES
from catalog.store import TableStore


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("damage") / "catalogue"
    small.do_stage(root, 0)
    small.do_stage(root, 1)
    return root


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _garbage(path: Path) -> None:
    path.write_bytes(b"\x93garbage\n" * 50)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": _truncate,
    "zeroed": _zero,
    "flipped": _flip,
    "deleted": lambda path: path.unlink(),
    "garbage": _garbage,
    "emptied": lambda path: path.write_bytes(b""),
}

CHOSEN = (
    "_catalogue/2.json",
    "_catalogue/newest.json",
    "_catalogue/1.json",
    "_catalogue/files/features",
    "_catalogue/files/stage_runs",
    "stage_runs/_delta_log",
    "features/_delta_log",
    "stage_runs",
    "slices",
    "explanations",
    "models",
    "features",
    "catalogue.sql",
    "catalogue.duckdb",
    "_ledger",
)
GENERATIONS = """
select 'features', n_tokens - 1 from features union select 'dictionaries', d_sae - 8 from dictionaries
"""
DOUBLED = """
select count(*) - count(distinct feature_index) from features union all
select count(*) - count(distinct explanation_id) from explanations union all
select count(*) - count(distinct (fingerprint, attempt)) from stage_runs union all
select count(*) - count(distinct (table_name, slice)) from slices
"""
ALL = tuple(f"{table}{part}" for table in TABLES for part in ("", "/_delta_log"))


def target(root: Path, place: str) -> Path | None:
    """The newest file of a place."""
    path = root / place
    if path.is_file():
        return path
    if place in TABLES:
        files = TableStore(root).files(place)
        return max((root / file.path for file in files), key=lambda p: p.stat().st_mtime_ns, default=None)
    names = sorted(path.glob("*.json"), key=lambda p: (len(p.name), p.name))
    return names[-1] if names else None


def generations(root: Path) -> set[int]:
    """What a reader sees; a damaged table may be empty, but never of two generations."""

    def ask(connection: DuckDBPyConnection) -> tuple[list[tuple[str, int]], list[tuple[int]]]:
        return connection.execute(GENERATIONS).fetchall(), connection.execute(DOUBLED).fetchall()

    found, doubled = read(ask, root)
    assert set(doubled) == {(0,)}
    return {generation for _, generation in found}


def refusal(ask: Callable[[], object]) -> str | None:
    """The one sentence of a refusal, None where it works."""
    try:
        ask()
    except CatalogueError as error:
        return str(error)
    return None


def check(root: Path, small: ModuleType) -> None:
    for asked, allowed in (
        (lambda: generations(root), ({1}, set())),
        (lambda: small.do_stage(root, 2), ({2},)),
    ):
        said = refusal(asked)
        if said is None:
            assert generations(root) in allowed
        else:
            assert "\n" not in said
            assert "\x1b" not in said
        TableStore(root).verify()
    first = TableStore(root).repair()
    left = [fault for fault in TableStore(root).verify(deep=True) if "sae_weights" not in fault]
    assert [fault for fault in left if "names" not in fault and "name " not in fault] == [], first
    for generation in (1, 3):
        small.do_stage(root, generation)
        assert generations(root) == {generation}
    assert [fault for fault in TableStore(root).verify(deep=True) if "sae_weights" not in fault] == []
    assert TableStore(root).repair() == []


@pytest.mark.parametrize(
    ("place", "damage"),
    [(place, list(DAMAGES)[number % 4]) for number, place in enumerate(CHOSEN)],
)
def test_damage(made: Path, tmp_path: Path, small: ModuleType, place: str, damage: str) -> None:
    root = Path(shutil.copytree(made, tmp_path / "catalogue"))
    path = target(root, place)
    assert path is not None
    DAMAGES[damage](path)
    check(root, small)


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", sorted({*CHOSEN, *ALL}))
def test_every_damage(made: Path, tmp_path: Path, small: ModuleType, place: str, damage: str) -> None:
    root = Path(shutil.copytree(made, tmp_path / "catalogue"))
    path = target(root, place)
    if path is None:
        pytest.skip("the small catalogue has no such file")
    DAMAGES[damage](path)
    check(root, small)


@pytest.mark.parametrize("table", ["features", "explanations", "dictionaries"])
def test_what_was_lost_is_named_and_done_again(
    made: Path, tmp_path: Path, small: ModuleType, table: str
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "catalogue"))
    path = target(root, table)
    assert path is not None
    _truncate(path)
    fingerprint = small.claim(root, 1).fingerprint
    done = TableStore(root).repair()
    assert any("to be run again: mine of" in line and fingerprint in line for line in done), done
    with connect(root) as connection:
        rows = connection.execute(
            "select state, error from stage_runs where fingerprint = $f order by attempt desc",
            {"f": fingerprint},
        ).fetchall()
    assert rows[0] == ("lost", "featlas repair: a data file that held its rows was damaged")
    assert small.do_stage(root, 1), "it is not taken for done"
    assert not small.do_stage(root, 1), "and then it is"
    assert generations(root) == {1}


@pytest.mark.parametrize(("damage", "lost"), [("truncated", 1), ("flipped", 1), ("deleted", 2)])
@pytest.mark.parametrize("versions_kept", [True, False])
def test_slices_keep_their_order_through_a_repair(
    made: Path, tmp_path: Path, damage: str, lost: int, versions_kept: bool
) -> None:
    """A slice without rows may go with its description; what is left is as old as it was."""

    def order(root: Path) -> list[tuple[str, str]]:
        with connect(root) as connection:
            text = "select table_name, slice from commit_order order by table_name, place, slice"
            return connection.execute(text).fetchall()

    root = Path(shutil.copytree(made, tmp_path / "catalogue"))
    before = order(root)
    files = sorted((root / "slices").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    for path in files[-lost:]:
        DAMAGES[damage](path)
    if not versions_kept:
        (root / "_catalogue" / "1.json").unlink()
    TableStore(root).repair()
    kept = order(root)
    assert kept == [one for one in before if one in kept]
    assert {table for table, _ in kept} == {table for table, _ in before}
    assert [fault for fault in TableStore(root).verify(deep=True) if "sae_weights" not in fault] == []
