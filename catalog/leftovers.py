"""What still holds the text of a forgotten document although no row of the newest version does.

Older versions keep their data files until ``vacuum`` removes them, killed stages keep working folders, and
``featlas repair`` sets damaged files aside. All that may hold the text is deleted at once, so versions before
the forgetting cannot be restored.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.commit import commit_lock
from catalog.connection import connect
from catalog.durable import TEMPORARY_PREFIX
from catalog.errors import CatalogueError
from catalog.faults import fault_point
from catalog.leases import LeaseFile, live_leases
from catalog.repair_versions import DAMAGED
from catalog.snapshot import FOLDER, Snapshot
from catalog.untrusted import BLOBS, SCRATCH, read_json

HOLD_TEXT = ("documents", "sequences", "examples", "document_firings", "features", "explanations")
"""Tables with texts, tokens or ids of documents, or with words that came from them."""
QUOTE_LABELS = ("runs", "stage_runs")
"""Tables of which an older version may quote a label of the document."""
WITHOUT_TEXT = ("train_dictionary", "describe_model")
"""Stages whose working folders hold weights and figures, no text."""
_CALLS = """
with stale as (
    select distinct dictionary_id, activation_set_id, feature_index
    from explanations
    where stale_in is not null and list_contains($sets, activation_set_id)
),
asked as (
    select call_id from explanations semi join stale using (dictionary_id, activation_set_id, feature_index)
    union
    select call_id from judgements semi join stale using (dictionary_id, activation_set_id, feature_index)
)
select distinct endpoint, prompt_digest
from llm_calls
where call_id in (select call_id from asked)
order by all
"""


def calls_to_forget(root: Path, sets: Sequence[str]) -> list[tuple[str, str]]:
    """Endpoint and prompt digest of every call about a feature whose explanations are marked."""
    with connect(root) as connection:
        return connection.execute(_CALLS, {"sets": list(sets)}).fetchall()


def sweep(root: Path, corpora: Sequence[str], document_id: str) -> list[str]:
    """Delete what no row of the newest version needs and what may hold the document's text.

    Returns:
        What was deleted, relative to the catalogue.

    Raises:
        CatalogueError: when a stage or run is at work, which may hold the text too.
    """
    with commit_lock(root) as newest:
        refuse_workers(root)
        with connect(root, snapshot=newest) as connection:
            values = {"corpora": list(corpora)}
            sql = (
                "select activation_set_id, uri from activation_sets where list_contains($corpora, corpus_id)"
            )
            sets = dict(connection.execute(sql, values).fetchall())
            sql = "select digest from corpora where list_contains($corpora, corpus_id)"
            digests = {digest for (digest,) in connection.execute(sql, values).fetchall()}
            uris = {u for (u,) in connection.execute("select uri from activation_sets").fetchall()}
        found = [*_superseded(newest, sets, corpora, document_id), *_unfinished(root), *_set_aside(root)]
        for path in found:
            fault_point("forget.sweep")
            path.unlink(missing_ok=True)
        folders = [*_old_sets(root, uris, digests), *_working_folders(root)]
        for folder in folders:
            shutil.rmtree(folder)
    return [path.relative_to(root).as_posix() for path in (*found, *folders)]


def refuse_workers(root: Path) -> None:
    """Refuse while a stage or run works: it may have read the text and commit it later.

    Raises:
        CatalogueError: naming the work and its process.
    """
    live = live_leases(root)
    if live:
        raise CatalogueError(
            f"{live[0].stage} of {live[0].label} is at work ({live[0].describe_owner()}): wait for its end "
            "or stop it, then forget the document"
        )


def _superseded(
    newest: Snapshot, sets: Mapping[str, str], corpora: Sequence[str], document_id: str
) -> Iterator[Path]:
    """Data files of older versions that hold the document, or rows about the sets of its corpus."""
    for table in (*HOLD_TEXT, *QUOTE_LABELS):
        live = {newest.root / file.path for file in newest.files(table)}
        for path in sorted((newest.root / table).rglob("*.parquet")):
            is_dead = path.parent.name != "_delta_log" and path not in live
            if is_dead and (table in QUOTE_LABELS or _is_about(path, sets, corpora, document_id)):
                yield path


def _is_about(path: Path, sets: Mapping[str, str], corpora: Sequence[str], document_id: str) -> bool:
    """Whether a file may hold the document; one that cannot be read may."""
    wanted = {
        "corpus_id": list(corpora),
        "activation_set_id": list(sets),
        "document_id": [document_id],
        "document_ids": [document_id],
    }
    with contextlib.suppress(OSError, pa.ArrowException):
        names = [name for name in wanted if name in pq.read_schema(path).names]
        table = pq.read_table(path, columns=names, partitioning=None)
        columns = {name: table[name] for name in names}
        if "document_ids" in columns:
            columns["document_ids"] = pc.list_flatten(columns["document_ids"])
        return any(
            pc.any(pc.is_in(column, value_set=pa.array(wanted[name], pa.string())), min_count=0).as_py()
            for name, column in columns.items()
        )
    return True


def _unfinished(root: Path) -> Iterator[Path]:
    """Files that a killed writer left half written."""
    for table in HOLD_TEXT:
        yield from sorted((root / table).rglob(f"{TEMPORARY_PREFIX}*"))


def _set_aside(root: Path) -> Iterator[Path]:
    """Damaged files of these tables that ``featlas repair`` moved away."""
    for path in sorted((root / FOLDER / DAMAGED).glob("*.parquet")):
        if any(f"-{table}-" in path.name for table in HOLD_TEXT):
            yield path


def _old_sets(root: Path, uris: set[str], digests: set[str]) -> Iterator[Path]:
    """Folders of activations on the corpus that no row names."""
    for folder in sorted((root / BLOBS / "activations").glob("*")):
        if folder.is_dir() and folder.relative_to(root).as_posix() not in uris:
            with contextlib.suppress(FileNotFoundError, CatalogueError):
                meta = read_json(folder / "meta.json")
                if not isinstance(meta, dict) or meta.get("corpus_digest") in digests:
                    yield folder


def _working_folders(root: Path) -> Iterator[Path]:
    """Working folders of stages that ended without a result, except those that hold no text."""
    for folder in sorted((root / SCRATCH).glob("*")):
        if folder.is_dir() and LeaseFile(root, folder.name).read().stage not in WITHOUT_TEXT:
            yield folder
