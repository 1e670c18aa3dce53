"""The catalogue on disk, behind a few operations."""

from collections.abc import Sequence
from pathlib import Path

from catalog.commit import commit
from catalog.parquet_io import DataFile
from catalog.publish import publish_views
from catalog.slices import SliceWrite
from catalog.snapshot import Snapshot, newest_snapshot, read_snapshot, versions

__all__ = ["DataFile", "SliceWrite", "Snapshot", "TableStore", "publish_rows"]


class TableStore:
    """Tables below one root folder; cheap to create, keeps nothing open."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def snapshot(self) -> Snapshot:
        """The version that readers see now."""
        return newest_snapshot(self.root)

    def files(self, table: str, snapshot: Snapshot | None = None, **partition: str | int) -> list[DataFile]:
        """Live data files of a table; with partition values only the files with these values."""
        return (snapshot or self.snapshot()).files(table, **partition)

    def publish(self, slices: Sequence[SliceWrite], *, fingerprint: str) -> Snapshot:
        """Commit rows that belong to no stage (runs, aliases, annotations)."""
        snapshot, _ = commit(self.root, slices, fingerprint=fingerprint)
        publish_views(snapshot)
        return snapshot

    def verify(self, *, deep: bool = False) -> list[str]:
        """Every fault found, one line each; see ``catalog.verify``."""
        from catalog.verify import verify

        return verify(self.root, deep=deep)

    def repair(self) -> list[str]:
        """Repair the effects of a power cut; see ``catalog.repair``."""
        from catalog.repair import repair

        return repair(self.root)

    def compact(self) -> Snapshot:
        """The same rows in fewer files; see ``catalog.upkeep``."""
        from catalog.upkeep import compact

        return compact(self.root)

    def vacuum(self, *, keep_versions: int = 20, older_than_seconds: float = 7 * 24 * 3600.0) -> list[str]:
        """Delete what no kept version needs; see ``catalog.upkeep``."""
        from catalog.upkeep import vacuum

        return vacuum(self.root, keep_versions=keep_versions, older_than_seconds=older_than_seconds)

    def restore(self, version: int) -> Snapshot:
        """A new version with the rows of an old one; see ``catalog.upkeep``."""
        from catalog.upkeep import restore

        return restore(self.root, version)

    def history(self) -> list[Snapshot]:
        """Every version that still has a file, newest first."""
        return [read_snapshot(self.root, version) for version in reversed(versions(self.root))]


def publish_rows(root: Path, slices: Sequence[SliceWrite], *, fingerprint: str) -> Snapshot:
    """Commit rows that belong to no stage, all or none; see ``TableStore.publish``."""
    return TableStore(root).publish(slices, fingerprint=fingerprint)
