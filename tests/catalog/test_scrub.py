"""A share a night finds every flipped bit within the stated number of nights."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import catalog.scrub
from catalog.scrub import Unit, data_units, scrub
from catalog.store import TableStore


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small: ModuleType) -> Path:
    root = tmp_path_factory.mktemp("scrub") / "catalogue"
    small.do_stage(root, 0)
    small.do_stage(root, 1)
    return root


@pytest.fixture
def nights(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each call is the next night."""
    first = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)

    class Clock:
        night = 0

        @classmethod
        def now(cls, tz: object) -> datetime:
            return first + timedelta(days=cls.night)

    monkeypatch.setattr(catalog.scrub, "datetime", Clock)

    def following(n: int) -> Iterator[int]:
        for night in range(n):
            Clock.night = night
            yield night

    return following


def test_every_file_is_read_within_the_nights_and_no_night_reads_much(made: Path, nights: Any) -> None:
    read: list[str] = []
    sizes = {f"f{i}": 1 + i * 7 % 13 for i in range(40)}
    units = [Unit(name, n, lambda name=name: read.append(name) or []) for name, n in sizes.items()]  # type: ignore[misc]
    share = sum(sizes.values()) / 8
    for night in nights(8):
        found = scrub(made, units, 8)
        assert share <= found.n_bytes <= share + max(sizes.values()) or night == 7
    assert set(read) == set(sizes)
    assert len(read) <= len(sizes) + 8, "hardly any twice"
    assert found.oldest >= "on 2026-11-01"
    assert found.oldest != "never"
    assert "all files are read within 8 nights" in found.sentence(8)


def test_a_flipped_bit_that_readers_do_not_see_is_found(made: Path, tmp_path: Path, nights: Any) -> None:
    root = Path(shutil.copytree(made, tmp_path / "catalogue"))
    (file,) = TableStore(root).files("features")
    whole = (root / file.path).read_bytes()

    def is_seen(position: int) -> bool:
        """Flip the lowest bit of one byte; whether readers notice it, as in the header of a page."""
        content = bytearray(whole)
        content[position] ^= 1
        (root / file.path).write_bytes(content)
        return any(file.path in fault for fault in TableStore(root).verify())

    assert not all(is_seen(len(whole) * n // 24) for n in range(8, 20))  # ends at the first unseen one
    faults = [fault for _ in nights(5) for fault in scrub(root, data_units(root), 5).faults]
    assert any(file.path in fault and "altered" in fault for fault in faults)


def test_what_it_remembers_may_be_damaged(made: Path, nights: Any) -> None:
    for content in ("", "[]", "{"):
        (made / "_catalogue" / "scrub.json").write_text(content)
        for _ in nights(1):
            assert scrub(made, data_units(made), 1).n_read == len(data_units(made))
