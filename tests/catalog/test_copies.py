"""A copy of a catalogue that is being written to: in any order it mixes no versions and can be repaired."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from catalog.connection import read
from catalog.errors import CatalogueError
from catalog.store import TableStore

Run = Callable[[Path, int, str], int]

MOMENTS = (
    "",
    "delta.commit:5:kill",
    "snapshot.link:1:kill",
    "newest.rename:1:kill",
    "publish.rename:1:kill",
    "done",
)
"""States of a catalogue while generation 1 is committed: between the logs, just before and after N, ..."""

ORDERS: dict[str, Callable[[list[str]], list[str]]] = {
    "catalogue first": lambda names: sorted(names, key=lambda name: (name != "_catalogue", name)),
    "catalogue last": lambda names: sorted(names, key=lambda name: (name == "_catalogue", name)),
    "by name": sorted,
    "backwards": lambda names: sorted(names, reverse=True),
}
CHOSEN = [
    ("catalogue first", "", "done"),
    ("catalogue first", "", "snapshot.link:1:kill"),
    ("catalogue first", "delta.commit:5:kill", "done"),
    ("catalogue last", "", "done"),
    ("catalogue last", "delta.commit:5:kill", "done"),
    ("by name", "", "done"),
    ("backwards", "snapshot.link:1:kill", "newest.rename:1:kill"),
]
EVERY = [
    (order, first, second)
    for order in ORDERS
    for i, first in enumerate(MOMENTS)
    for second in MOMENTS[i + 1 :]
]


@pytest.fixture(scope="module")
def states(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The catalogue at every moment."""
    before = tmp_path_factory.mktemp("states") / "before"
    assert run(before, 0, "") == 0
    found = {"": before}
    for number, moment in enumerate(MOMENTS[1:]):
        root = before.with_name(f"{number}")
        shutil.copytree(before, root)
        assert run(root, 1, "" if moment == "done" else moment) == (0 if moment == "done" else -9)
        found[moment] = root
    return found


def copied(states: Iterable[Path], order: str, share: float, target: Path) -> Path:
    """A copy whose first part, folder by folder, shows the first state and whose rest shows the second."""
    first, second = states
    names = ORDERS[order]([path.name for path in second.iterdir()])
    for number, name in enumerate(names):
        source = (first if number < max(1, share * len(names)) else second) / name
        if source.is_dir():
            shutil.copytree(source, target / name)
        elif source.exists():
            target.mkdir(exist_ok=True)
            shutil.copy(source, target / name)
    return target


def copied_by_file(states: tuple[Path, Path], seed: int, target: Path) -> Path:
    """A copy that takes every file by itself, in any order; from some file on it sees the second state."""
    random = Random(seed)
    names = sorted({path.relative_to(one) for one in states for path in one.rglob("*") if path.is_file()})
    random.shuffle(names)
    n_first = random.randrange(len(names))
    for number, name in enumerate(names):
        source = states[number >= n_first] / name
        if source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target / name)
    return target


def generations(root: Path) -> set[int]:
    """What is seen; a table whose files did not come along may be empty, but none has two generations."""
    rows = read(
        lambda connection: connection.execute(
            "select distinct 'features', n_tokens - 1 from features union all "
            "select 'dictionaries', d_sae - 8 from dictionaries union all "
            "select 'rows', count(*) - count(distinct feature_index) from features"
        ).fetchall(),
        root,
    )
    by_table = {table: {value for name, value in rows if name == table} for table, _ in rows}
    assert by_table.pop("rows") == {0}
    assert all(len(values) == 1 for values in by_table.values())
    return set().union(*by_table.values())


def sound(root: Path) -> list[str]:
    return [fault for fault in TableStore(root).verify(deep=True) if "sae_weights" not in fault]


def check(root: Path, small: ModuleType) -> None:
    """Before a repair files may be missing, which is said; after it everything is whole."""
    assert refusal(lambda: generations(root)) or len(generations(root)) <= 1
    if not refusal(lambda: small.do_stage(root, 2)):
        assert generations(root) == {2}
        unsaid = [fault for fault in sound(root) if "is missing" not in fault and "not checked" not in fault]
        assert unsaid == []
    TableStore(root).repair()
    small.do_stage(root, 3)
    assert generations(root) == {3}
    assert sound(root) == []
    assert TableStore(root).repair() == []


def refusal(ask: Callable[[], object]) -> bool:
    """Whether it is refused, in a sentence that names the way out."""
    try:
        ask()
    except CatalogueError as error:
        if "repair" not in str(error):
            raise
        return True
    return False


@pytest.mark.parametrize(("order", "first", "second"), CHOSEN)
def test_a_copy(
    states: dict[str, Path], tmp_path: Path, small: ModuleType, order: str, first: str, second: str
) -> None:
    check(copied((states[first], states[second]), order, 0.0, tmp_path / "copy"), small)


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.faults) for n in range(3, 30))]
)
def test_a_copy_of_every_file_by_itself(
    states: dict[str, Path], tmp_path: Path, small: ModuleType, seed: int
) -> None:
    second = MOMENTS[1 + seed % (len(MOMENTS) - 1)]
    check(copied_by_file((states[""], states[second]), seed, tmp_path / "copy"), small)


@pytest.mark.faults
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize(("order", "first", "second"), EVERY)
def test_every_copy(
    states: dict[str, Path],
    tmp_path: Path,
    small: ModuleType,
    order: str,
    first: str,
    second: str,
    share: float,
) -> None:
    check(copied((states[first], states[second]), order, share, tmp_path / "copy"), small)
