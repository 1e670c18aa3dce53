"""Corpora that gain documents: what is new, what stays, what is refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from catalog.errors import UserError
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable
from tasks.activations.corpora.growth import each_generation, grown_corpus

LONG = "the quick brown fox jumps over the lazy dog and runs away from the old farm "


def read(folder: Path, earlier: CorpusTable | None = None, **texts: str | None) -> CorpusTable:
    for name, text in texts.items():
        path = folder / f"{name}.txt"
        path.unlink(missing_ok=True) if text is None else path.write_text(text)
    config = CORPUS_SOURCES["text"].Config(source="text", path=str(folder), grows=True)
    return grown_corpus(config, 0.25, "lineage", earlier)


def names(corpus: CorpusTable) -> list[tuple[str, int]]:
    columns = (corpus.table[name].to_pylist() for name in ("document_id", "generation"))
    return [(name.removesuffix(".txt"), generation) for name, generation in zip(*columns, strict=True)]


def test_new_documents_follow_those_that_were_there(tmp_path: Path) -> None:
    first = read(tmp_path, m="one text", z="another text")
    second = read(tmp_path, first, a="a third text", q="a fourth text")
    assert names(first) == [("m", 1), ("z", 1)]
    assert names(second) == [("m", 1), ("z", 1), ("a", 2), ("q", 2)]
    assert [one.table["document_id"].to_pylist() for one in each_generation(second)] == [
        ["m.txt", "z.txt"],
        ["a.txt", "q.txt"],
    ]
    assert second.generations[0] == first.generations[0]


def test_nothing_new_gives_the_same_corpus(tmp_path: Path) -> None:
    first = read(tmp_path, m="one text", z="another text")
    assert read(tmp_path, first).digest == first.digest


def test_a_copy_of_an_earlier_document_is_left_out(tmp_path: Path) -> None:
    """Its id sorts before the earlier one, which would be the copy if all were read at once."""
    first = read(tmp_path, m=LONG * 3)
    second = read(tmp_path, first, a=LONG * 3, b=LONG * 3 + "end", c="something else")
    assert names(second) == [("m", 1), ("c", 2)]
    assert (second.n_duplicates, second.n_near_duplicates) == (1, 1)


def test_documents_that_are_gone_from_the_source_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read(tmp_path, m="one text", z="another text")
    second = read(tmp_path, first, m=None, a="a third text")
    assert names(second) == [("m", 1), ("z", 1), ("a", 2)]
    assert second.n_gone == 1
    assert "1 documents are no longer in the source" in caplog.text


def test_a_changed_document_is_refused(tmp_path: Path) -> None:
    first = read(tmp_path, m="one text")
    with pytest.raises(UserError, match=r"'m\.txt' changed since it was added"):
        read(tmp_path, first, m="one text more")


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("parquet", {"path": "x.parquet", "text_column": "text"}, "name an id_column"),
        ("stdlib", {}, "source stdlib gains no documents"),
        ("stdlib_planted", {}, "source stdlib_planted gains no documents"),
    ],
)
def test_a_source_that_cannot_tell_is_refused(source: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CORPUS_SOURCES[source].Config(source=source, grows=True, **settings)


def test_a_corpus_that_does_not_grow_is_described_as_before() -> None:
    config = CORPUS_SOURCES["text"].Config(source="text", path="texts")
    assert "grows" not in config.canonical()
    assert CORPUS_SOURCES["text"].Config(source="text", path="texts", grows=True).canonical()["grows"]
