"""A document that is forgotten between two nights stays out, and the nights after it go on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasks.stages.mine_examples
from catalog.connection import connect
from catalog.store import TableStore
from flows.forgetting import find_document, forget
from flows.reports import Run
from tests.flows.serverless import tasks_as_functions
from tests.flows.test_growing import N_DOCUMENTS, TABLES, night, rows_of

GONE = "21"
"""Came with the first documents."""
GONE_LATER = "94"
"""Came on the second night."""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Run]]]:
    """``nights``: a document is forgotten after the first night, one of the second after that.

    ``once``: the same up to the last night, whose passes start from the first document.
    """
    folder = tmp_path_factory.mktemp("grown")
    nights = folder / "nights"
    with tasks_as_functions(), pytest.MonkeyPatch.context() as patch:
        runs = [night(folder, nights, N_DOCUMENTS[0])]
        forgotten(nights, GONE)
        runs.append(night(folder, nights, N_DOCUMENTS[1]))
        forgotten(nights, GONE_LATER)
        shutil.copytree(nights, folder / "once")
        runs.append(night(folder, nights, N_DOCUMENTS[2]))
        patch.setattr(tasks.stages.mine_examples, "continued_mining", lambda *_: None)
        night(folder, folder / "once", N_DOCUMENTS[2])
        yield folder, runs


def forgotten(root: Path, document: str) -> None:
    done = forget(root, find_document(root, "parquet", document), "tester", None)
    assert done.counts is not None
    assert done.counts.n_firings > 0


def test_a_forgotten_document_is_in_no_evidence_of_a_later_night(grown: tuple[Path, list[Run]]) -> None:
    """Its source still has it."""
    folder, _ = grown
    with connect(folder / "nights") as connection:
        for document in (GONE, GONE_LATER):
            values = {"document": document}
            for table in ("examples", "document_firings"):
                (n,) = connection.execute(
                    f"select count(*) from {table} where document_id = $document", values
                ).fetchone()
                assert n == 0, table
            (n,) = connection.execute(
                "select count(*) from sequences where list_contains(document_ids, $document) and "
                "len(list_filter(list_zip(document_ids, valid), lambda x: x[1] = $document and x[2])) > 0",
                values,
            ).fetchone()
            assert n == 0
            texts = connection.execute(
                "select distinct text from documents where document_id = $document", values
            ).fetchall()
            assert texts == [("",)]
    assert TableStore(folder / "nights").verify() == []


@pytest.mark.parametrize("table", TABLES)
def test_the_night_ends_as_a_pass_from_the_first_document(grown: tuple[Path, list[Run]], table: str) -> None:
    folder, runs = grown
    corpus = runs[-1].outcomes[0][1].facts["corpus_id"]
    nights, once = (rows_of(folder / name, table, {corpus}) for name in ("nights", "once"))
    assert len(once) > 0
    assert nights == once


def test_other_documents_of_the_later_nights_are_there(grown: tuple[Path, list[Run]]) -> None:
    folder, runs = grown
    corpus = runs[-1].outcomes[0][1].facts["corpus_id"]
    with connect(folder / "nights") as connection:
        n, n_empty = connection.execute(
            "select count(*), count_if(text = '') from documents where corpus_id = $corpus",
            {"corpus": corpus},
        ).fetchone()
        (n_firing,) = connection.execute(
            """select count(distinct document_id) from document_firings
               join activation_sets using (activation_set_id) where corpus_id = $corpus""",
            {"corpus": corpus},
        ).fetchone()
    assert (n, n_empty) == (N_DOCUMENTS[2], 2)
    assert n_firing == N_DOCUMENTS[2] - 2
