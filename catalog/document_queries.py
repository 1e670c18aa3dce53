"""The named queries of documents and corpora, for the command that forgets a document."""

from collections.abc import Sequence

from catalog.query import Query, named


def corpora() -> Query:
    """Every corpus with the one that it grew from."""
    return named("corpora", locals())


def documents_named(*, corpus_id: str, name: str) -> Query:
    """At most four documents whose ids begin with a name; the one of exactly that name first."""
    return named("documents_named", locals())


def nearest_documents(*, corpus_id: str, name: str) -> Query:
    """The three documents whose ids are most like a name."""
    return named("nearest_documents", locals())


def same_text(*, text: str, document_id: str, corpora: Sequence[str]) -> Query:
    """At most five documents with a text, without those of ``corpora`` that have the id."""
    return named("same_text", locals())


def corpus_settings(*, corpus_id: str) -> Query:
    """The configuration with which a corpus was read last; no row if none is recorded."""
    return named("corpus_settings", locals())


def forgotten_before(*, document_id: str, corpora: Sequence[str]) -> Query:
    """The record of a document that was forgotten before; no row if it was not."""
    return named("forgotten_before", locals())
