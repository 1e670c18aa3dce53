"""Take a document out of the evidence: find it, prepare its activation sets, commit once, delete the rest."""

import getpass
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from catalog import queries
from catalog.changes import Change
from catalog.commit import PENDING, commit_changes, commit_lock
from catalog.connection import connect
from catalog.durable import make_folder, said_plainly
from catalog.errors import UserError
from catalog.forgetting import Evidence, evidence_of, token_places
from catalog.forgotten_rows import Counts, forget_rows, without_labels
from catalog.ids import digest, stage_fingerprint
from catalog.leftovers import HOLD_TEXT, calls_to_forget, refuse_workers, sweep
from catalog.publish import publish_views
from catalog.rewriting import Rewriting
from catalog.rows import rows_of
from catalog.slices import SliceWrite, finished_rows, slice_name
from catalog.snapshot import FOLDER, Snapshot, newest_snapshot
from catalog.soundness import footer_fault, sound_files
from catalog.staging import Staged, discard, slice_rows
from catalog.untrusted import SCRATCH, blob_folder
from tasks.autointerp.prompt_cache import PromptCache
from tasks.support.endpoint import CACHE_FOLDER
from tasks.support.growing import SIGNATURES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

N_NEAREST = 3


@dataclass(frozen=True)
class Found:
    """A document of the catalogue, what holds it, and whether it was forgotten before."""

    snapshot: Snapshot
    corpus_id: str
    evidence: Evidence
    places: Mapping[str, Any]
    """Activation set → places of the document's tokens."""
    twins: list[tuple[str, str]]
    """Corpus and id of documents with the same text."""
    before: Mapping[str, Any] | None
    settings_digest: str | None

    @property
    def n_tokens(self) -> int:
        """Tokens of the document in all sets."""
        return sum(len(places) for places in self.places.values())

    @property
    def is_gone(self) -> bool:
        """Whether it was forgotten and nothing of it came back."""
        return self.before is not None and not (self.evidence.text or self.evidence.kept or self.n_tokens)


@dataclass(frozen=True)
class Forgotten:
    """What was done; ``counts`` is None if the tables held nothing of the document any more."""

    counts: Counts | None
    n_deleted: int
    n_answers: int


def find_document(root: Path, corpus: str, document: str) -> Found:
    """The document that two names or the beginnings of names refer to.

    Raises:
        UserError: one sentence, for an unknown or ambiguous name, and for damaged files that may hold it.
    """
    if (root / FOLDER / PENDING).exists():
        with commit_lock(root):  # rolls back an interrupted commit, which may have moved the folders of sets
            pass
    snapshot = newest_snapshot(root)
    damaged = [damage for table in HOLD_TEXT for damage in sound_files(snapshot, table, footer_fault)[1]]
    if damaged:
        raise UserError(
            f"{damaged[0].table}: {damaged[0].path} {damaged[0].reason}; run `featlas repair`, then forget"
        )
    with connect(root, snapshot=snapshot) as connection:
        names = {"corpus_id": _corpus(connection, corpus)}
        names["document_id"] = _document(connection, names["corpus_id"], document)
        (row,) = queries.document(**names).read(connection).to_pylist()
        text = row["text"]
        evidence = evidence_of(connection, text=text, **names)
        settings = queries.corpus_settings(corpus_id=names["corpus_id"]).read(connection).to_pylist()
        family, name = evidence.corpora, evidence.document_id
        before = queries.forgotten_before(document_id=name, corpora=family).read(connection).to_pylist()
        alike = queries.same_text(text=text, document_id=name, corpora=family)
        twins = alike.read(connection).to_pylist() if text else []
    context = {name: _meta(root, uri)["context_length"] for name, uri in evidence.sets.items()}
    return Found(
        snapshot,
        names["corpus_id"],
        evidence,
        token_places(snapshot, evidence, context),
        [(twin["corpus_id"], twin["document_id"]) for twin in twins],
        before[0] if before else None,
        digest(json.loads(settings[0]["config"])["corpus"]) if settings else None,
    )


def forget(root: Path, found: Found, by: str | None, reason: str | None) -> Forgotten:
    """Take a document out of the catalogue in one version, then delete what still holds its text.

    A kill at any moment leaves the version before or after; the same call again does the rest.

    Raises:
        UserError: while a stage or run works; when another process changed the sets meanwhile.
        CatalogueError: when a write fails; nothing was published.
    """
    refuse_workers(root)
    counts = None
    if not found.is_gone:
        with _sets_without(root, found) as (folders, sets):
            counts = _commit(root, found, folders, sets, by, reason)
    evidence = found.evidence
    caches = [
        (PromptCache(root / CACHE_FOLDER / endpoint), key)
        for endpoint, key in calls_to_forget(root, list(evidence.sets))
    ]
    n_answers = sum(cache.remove(key) for cache, key in caches)
    shutil.rmtree(root / SIGNATURES, ignore_errors=True)
    deleted = sweep(root, evidence.corpora, evidence.document_id)
    publish_views(newest_snapshot(root))
    return Forgotten(counts, len(deleted), n_answers)


def _commit(
    root: Path,
    found: Found,
    folders: Mapping[str, Path],
    sets: Mapping[str, Mapping[str, Any]],
    by: str | None,
    reason: str | None,
) -> Counts:
    counts = Counts()

    def changes(base: Snapshot) -> list[Change]:
        refuse_workers(root)
        for table in ("activation_sets", "sequences"):
            if base.tables.get(table) != found.snapshot.tables.get(table):
                raise UserError(f"another process changed {table} of {root} meanwhile; run the command again")
        with connect(root, snapshot=base) as connection:
            evidence = evidence_of(
                connection, found.corpus_id, found.evidence.document_id, found.evidence.text
            )
        rewriting = Rewriting(base)
        try:
            vars(counts).update(vars(forget_rows(rewriting, evidence, sets)))
            _add_tombstone(rewriting, found, evidence, counts, by, reason)
        except BaseException:
            discard(root, [file for change in rewriting.changes.values() for file in change.add])
            raise
        return list(rewriting.changes.values())

    publish_views(commit_changes(root, changes, "forget", new_files=True, folders=folders))
    return counts


def _add_tombstone(
    rewriting: Rewriting,
    found: Found,
    evidence: Evidence,
    counts: Counts,
    by: str | None,
    reason: str | None,
) -> None:
    """The row that keeps the document out, and what ``slices`` says of it and of the rewritten slices."""
    before = found.before or {}
    totals = {"n_tokens": found.n_tokens, **asdict(counts)}
    totals.pop("n_firings")
    row = {
        "corpus_id": before.get("corpus_id") or found.corpus_id,
        "document_id": evidence.document_id,
        "text_digest": before.get("text_digest") or hashlib.sha256(evidence.text.encode()).hexdigest(),
        "settings_digest": found.settings_digest,
        "forgotten_at": before.get("forgotten_at") or datetime.now(UTC),
        "forgotten_by": by or _login(),
        "reason": reason or before.get("reason"),
        **{name: n + before.get(name, 0) for name, n in totals.items()},
    }
    names = {name: row[name] for name in ("corpus_id", "document_id")}
    fingerprint = stage_fingerprint("forget", 1, names)
    write = SliceWrite("forgotten_documents", " ".join(names.values()), rows_of("forgotten_documents", [row]))
    rows = pa.concat_tables(finished_rows(write, fingerprint))
    rewriting.add("forgotten_documents", rows)
    staged = Staged(write, slice_name(write.subject, fingerprint), [], rows)
    files = rewriting.changes["forgotten_documents"].add
    described = slice_rows([(staged, files)], fingerprint, rewriting.base.version + 1)
    rewriting.record(described, lambda table: without_labels(table, evidence))


@contextmanager
def _sets_without(root: Path, found: Found) -> Iterator[tuple[dict[str, Path], dict[str, dict[str, Any]]]]:
    """Folders of the sets that hold the document, written again without it, and their new figures."""
    from tasks.activations.caching.forgetting import set_without

    evidence = found.evidence
    scratch = root / SCRATCH / f"forget-{digest([found.corpus_id, evidence.document_id])[:16]}"
    folders: dict[str, Path] = {}
    sets: dict[str, dict[str, Any]] = {}
    try:
        with said_plainly("write to", scratch):
            shutil.rmtree(scratch, ignore_errors=True)
            make_folder(scratch)
            for number, (name, places) in enumerate(found.places.items()):
                if len(places):
                    uri = evidence.sets[name]
                    source = blob_folder(root, uri, "the folder of an activation set")
                    folders[uri] = scratch / str(number)
                    sets[name] = asdict(set_without(source, folders[uri], places))
        yield folders, sets
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _meta(root: Path, uri: str) -> dict[str, Any]:
    from tasks.activations.text.token_files import read_object

    return read_object(blob_folder(root, uri, "the folder of an activation set") / "meta.json")


def _corpus(connection: "DuckDBPyConnection", name: str) -> str:
    """The corpus of that id or beginning; of the states of one that grew, the newest."""
    rows = queries.corpora().read(connection).to_pylist()
    parents = {row["corpus_id"]: row["parent_corpus_id"] for row in rows}
    if name in parents:
        return name
    close = [corpus for corpus in parents if corpus.startswith(name)]
    if not close:
        raise UserError(f"there is no corpus {name!r}; corpora are {', '.join(parents) or 'none yet'}")
    earlier = {parents[corpus] for corpus in close}
    newest = [corpus for corpus in close if corpus not in earlier]
    if len(newest) > 1:
        raise UserError(f"corpus {name!r} may be {', '.join(newest)}: give more of its id")
    return str(newest[0])


def _document(connection: "DuckDBPyConnection", corpus_id: str, name: str) -> str:
    rows = queries.documents_named(corpus_id=corpus_id, name=name).read(connection)
    found = rows["document_id"].to_pylist()
    if found and (found[0] == name or len(found) == 1):
        return str(found[0])
    if found:
        raise UserError(f"document {name!r} of {corpus_id} may be {', '.join(found[:N_NEAREST])}: give more")
    rows = queries.nearest_documents(corpus_id=corpus_id, name=name).read(connection)
    near = ", ".join(rows["document_id"].to_pylist())
    raise UserError(f"there is no document {name!r} in corpus {corpus_id}; close ids are {near}")
