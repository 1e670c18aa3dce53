"""``featlas forget``: say what the catalogue holds of a document, and take it out on request."""

from typing import TYPE_CHECKING

from catalog.errors import UserError
from catalog.settings import catalogue_root

if TYPE_CHECKING:
    from flows.forgetting import Forgotten, Found

WOULD = (
    "would blank its text and labels, turn its tokens and activations into padding, remove its examples and "
    "firings, mark the explanations of these features for re-explaining, and delete older versions of these "
    "files; dictionaries and statistics stay as computed. Nothing was changed: run again with --yes"
)


def forget_command(
    corpus: str, document: str, catalogue: str | None, *, yes: bool, by: str | None, reason: str | None
) -> None:
    """Print what is held of the document; with ``yes`` remove it.

    Raises:
        UserError: for an unknown or ambiguous name, and while a stage or run works on the catalogue.
    """
    from flows.forgetting import find_document, forget

    root = catalogue_root(catalogue)
    if not root.is_dir():
        raise UserError(f"there is no catalogue at {root}: name one with --catalog")
    found = find_document(root, corpus, document)
    print(_held(found))
    for other, twin in found.twins:
        print(f"the same text is document {twin} of corpus {other}: forget it there too")
    if yes:
        print(_done(forget(root, found, by, reason)))
    elif not found.is_gone:
        print(WOULD)


def _held(found: "Found") -> str:
    evidence = found.evidence
    states = f" (in all {len(evidence.corpora)} states of it)" if len(evidence.corpora) > 1 else ""
    name = f"document {evidence.document_id} of corpus {found.corpus_id}{states}"
    n_sets = sum(len(places) > 0 for places in found.places.values())
    held = (
        f"{len(evidence.text):,} characters, {found.n_tokens:,} tokens in {n_sets} activation sets, examples "
        f"of {len(evidence.kept):,} features"
    )
    if found.before is None:
        return f"{name}: {held}"
    left = "--yes deletes what an interrupted forgetting left" if found.is_gone else f"still held: {held}"
    return f"{name} was forgotten on {found.before['forgotten_at']:%Y-%m-%d}; {left}"


def _done(done: "Forgotten") -> str:
    deleted = (
        f"deleted {done.n_deleted:,} files and folders of older versions, {done.n_answers:,} cached answers"
    )
    if (counts := done.counts) is None:
        return deleted
    return (
        f"forgotten: {counts.n_examples:,} examples and {counts.n_firings:,} firings removed, "
        f"{counts.n_explanations:,} explanations to be written again, {counts.n_withdrawn:,} of them without "
        f"text until then\n{deleted}"
    )
