"""A second table store, as simple as can be, to hold the real one against.

A table is a list of Parquet files named in a JSON manifest per version; version N+1 is created with a hard
link, which only one writer can do. No log, no lock, no shared files, no roll-back: everything a commit
changes is in the one file that makes it visible.
"""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.schemas import TABLES
from catalog.slices import SliceWrite, finished_rows


class ManifestStore:
    """The same promises as ``TableStore``, for tests only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def version(self) -> int:
        return max((int(path.stem) for path in self.root.glob("*.json")), default=0)

    def manifest(self, version: int | None = None) -> dict[str, list[dict[str, str]]]:
        """Per table its files, each with the subject it is about."""
        number = self.version() if version is None else version
        if number == 0:
            return {}
        content: dict[str, list[dict[str, str]]] = json.loads((self.root / f"{number}.json").read_text())
        return content

    def publish(self, writes: Sequence[SliceWrite], fingerprint: str) -> int:
        """Add the slices; the second writer reads what the first left and tries again."""
        staged = [(write, pa.concat_tables(finished_rows(write, fingerprint))) for write in writes]
        while True:
            version = self.version()
            manifest = self.manifest(version)
            for write, rows in staged:
                manifest[write.table] = self._changed(manifest, write, rows)
            if self._create(version + 1, manifest):
                return version + 1

    def rows(self, table: str, version: int | None = None) -> list[dict[str, Any]]:
        """All rows in the order of the key."""
        files = self.manifest(version).get(table, [])
        rows = [row for file in files for row in pq.read_table(self.root / file["path"]).to_pylist()]
        return sorted(rows, key=lambda row: tuple(row[name] for name in TABLES[table].key))

    def restore(self, version: int) -> int:
        """A new version like an old one."""
        number = self.version() + 1
        assert self._create(number, self.manifest(version))
        return number

    def _changed(
        self, manifest: dict[str, list[dict[str, str]]], write: SliceWrite, rows: pa.Table
    ) -> list[dict[str, str]]:
        spec = write.spec
        files = list(manifest.get(write.table, []))
        if spec.append_only:
            known = [row for file in files for row in pq.read_table(self.root / file["path"]).to_pylist()]
            keys = {tuple(row[name] for name in spec.key) for row in known}
            fresh = [row for row in rows.to_pylist() if tuple(row[name] for name in spec.key) not in keys]
            rows = pa.Table.from_pylist(fresh, schema=rows.schema)
        else:
            files = [file for file in files if file["subject"] != write.subject]
        path = f"{write.table}-{secrets.token_hex(8)}.parquet"
        pq.write_table(rows, self.root / path)
        return [*files, {"path": path, "subject": write.subject}]

    def _create(self, version: int, manifest: dict[str, list[dict[str, str]]]) -> bool:
        temporary = self.root / f".tmp-{secrets.token_hex(8)}"
        temporary.write_text(json.dumps(manifest))
        try:
            os.link(temporary, self.root / f"{version}.json")
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True
