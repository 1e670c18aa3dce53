"""``featlas verify``: whether all files exist, are unchanged, and agree with each other."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.checks import check_data
from catalog.commit import PENDING, read_note
from catalog.connection import connect
from catalog.delta_log import DeltaLog
from catalog.errors import CatalogueError
from catalog.parquet_io import DataFile, hash_file, read_file
from catalog.publish import published_version
from catalog.relations import sql_type
from catalog.schemas import TABLES, TableSpec
from catalog.snapshot import FOLDER, NEWEST, Snapshot, newest_copy, newest_snapshot
from catalog.untrusted import blob_folder

FOLDERS = (("activation_sets", "uri", ""), ("dictionaries", "weights_uri", "sae_weights.safetensors"))


def verify(root: Path, *, deep: bool = False) -> list[str]:
    """Every fault found, one line each; an empty list means an intact catalogue.

    Without ``deep``: logs, presence and size of files, their schema and row counts, keys, nulls,
    enumerations, ranges, references, sizes of slices. ``deep`` reads every byte: SHA-256 of each data
    file and of the dictionaries' weights, and the checksum of every Parquet page.
    """
    import duckdb

    try:
        snapshot = newest_snapshot(root)
    except CatalogueError as error:
        return [str(error)]
    faults = list(_check_commits(snapshot))
    broken = False
    for name in [name for name in snapshot.tables if name in TABLES]:
        try:
            for file in snapshot.files(name):
                found = list(_check_file(root, TABLES[name], file, deep=deep))
                faults += found
                broken = broken or bool(found)
        except CatalogueError as error:
            faults.append(str(error))
            broken = True
    if broken:
        return [*faults, "rows were not checked, because files are damaged"]
    try:
        return [*faults, *_check_rows(root, snapshot, deep=deep)]
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        return [*faults, f"rows cannot be read ({reason}): run `featlas verify --deep` and `featlas repair`"]


def _check_rows(root: Path, snapshot: Snapshot, *, deep: bool) -> Iterator[str]:
    with connect(root, snapshot=snapshot) as connection:
        yield from check_data(connection)
        for table, column, weights in FOLDERS:
            digest = "weights_digest" if weights else "digest"
            for uri, wanted in connection.execute(f"select {column}, {digest} from {table}").fetchall():
                yield from _check_folder(root, table, str(uri), weights, str(wanted) if deep else "")


def _check_commits(snapshot: Snapshot) -> Iterator[str]:
    root = snapshot.root
    copy = newest_copy(root)
    if copy is None and (root / FOLDER / NEWEST).exists():
        yield f"{FOLDER}/{NEWEST} is damaged: run `featlas repair`"
    if (root / FOLDER / PENDING).exists() and not _has_landed(snapshot):
        yield "an interrupted commit was not rolled back yet: run `featlas repair`"
    for table in dict.fromkeys((*snapshot.tables, *TABLES)):
        if table not in TABLES:
            yield f"{table}: not a table of this version of featlas"
        else:
            yield from _check_log(snapshot, table)
    if snapshot.version and published_version(root) < snapshot.version:
        yield f"catalogue.sql and catalogue.duckdb are older than version {snapshot.version}"


def _has_landed(snapshot: Snapshot) -> bool:
    """Whether the commit of a left-over note is the newest version; the next commit deletes the note."""
    try:
        return read_note(snapshot.root).commit_id == snapshot.commit_id
    except (CatalogueError, FileNotFoundError):
        return False


def _check_log(snapshot: Snapshot, table: str) -> Iterator[str]:
    log, version = DeltaLog(snapshot.root, table), snapshot.tables.get(table, -1)
    try:
        acknowledged = [file.path for file in snapshot.files(table)]
        if version >= 0 and [file.path for file in log.files(version)] != acknowledged:
            yield f"{table}: the log shows other files than were committed: run `featlas repair`"
        elif log.newest_entry() > version and [f.path for f in log.files(log.latest())] != acknowledged:
            yield (
                f"{table}: the log is ahead of version {snapshot.version} of the catalogue, with files that "
                "were never acknowledged: `featlas repair` or the next commit takes it back"
            )
    except CatalogueError as error:
        yield str(error)


def _check_file(root: Path, spec: TableSpec, file: DataFile, *, deep: bool) -> Iterator[str]:
    path = root / file.path
    if not path.is_file():
        yield f"{spec.name}: {file.path} is missing"
        return
    if path.stat().st_size != file.n_bytes:
        yield f"{spec.name}: {file.path} has {path.stat().st_size} bytes, but {file.n_bytes} were committed"
        return
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        yield f"{spec.name}: {file.path} has no readable footer: {error}"
        return
    if footer.num_rows != file.rows:
        yield f"{spec.name}: {file.path} has {footer.num_rows} rows, but {file.rows} were committed"
    yield from _check_schema(spec, file, schema)
    if not deep:
        return
    if hash_file(path) != file.sha256:
        yield f"{spec.name}: {file.path} was altered: its SHA-256 is not that of its name"
    try:
        read_file(root, file.path)
    except CatalogueError as error:
        yield f"{spec.name}: {error}"


def _check_schema(spec: TableSpec, file: DataFile, schema: pa.Schema) -> Iterator[str]:
    for column in spec.columns:
        if column.since > file.schema_version:
            continue
        index = schema.get_field_index(column.name)
        if index < 0:
            yield f"{spec.name}: {file.path} has no column {column.name}"
        elif sql_type(kind := schema.field(index).type) != sql_type(column.type):
            yield f"{spec.name}: {file.path} has {column.name} as {kind}, not {column.type}"


def _check_folder(root: Path, table: str, uri: str, weights: str, digest: str) -> Iterator[str]:
    try:
        folder = blob_folder(root, uri, f"{table}: the folder")
    except CatalogueError as error:
        yield str(error)
        return
    if not folder.is_dir():
        yield f"{table}: folder {uri} is missing"
    elif weights and not (folder / weights).is_file():
        yield f"{table}: {uri}/{weights} is missing"
    elif weights and digest and hash_file(folder / weights) != digest:
        yield f"{table}: {uri}/{weights} was altered: its SHA-256 is not the recorded one"
