"""The catalogue on disk, behind a few verbs."""

from collections.abc import Sequence
from pathlib import Path

from catalog.commit import commit
from catalog.parquet_io import DataFile
from catalog.publish import publish_views
from catalog.slices import SliceWrite
from catalog.snapshot import Snapshot, newest_snapshot, read_snapshot, versions

__all__ = ["DataFile", "SliceWrite", "Snapshot", "TableStore", "publish_rows"]


class TableStore:
    """Tables below one root folder; cheap to make, keeps nothing open."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def snapshot(self) -> Snapshot:
        """What readers see now."""
        return newest_snapshot(self.root)

    def files(self, table: str, snapshot: Snapshot | None = None, **partition: str | int) -> list[DataFile]:
        """Live data files of a table, those only whose partition values are as given."""
        return (snapshot or self.snapshot()).files(table, **partition)

    def publish(self, slices: Sequence[SliceWrite], *, fingerprint: str) -> Snapshot:
        """Commit rows that no stage stands behind (runs, aliases, annotations)."""
        snapshot, _ = commit(self.root, slices, fingerprint=fingerprint)
        publish_views(snapshot)
        return snapshot

    def history(self) -> list[Snapshot]:
        """Every version that is still described, newest first."""
        return [read_snapshot(self.root, version) for version in reversed(versions(self.root))]


def publish_rows(root: Path, slices: Sequence[SliceWrite], *, fingerprint: str) -> Snapshot:
    """Commit rows that no stage stands behind, all or none; see ``TableStore.publish``."""
    return TableStore(root).publish(slices, fingerprint=fingerprint)
