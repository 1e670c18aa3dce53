"""The standard library with a planted comment: the same documents, changed only where a line returns."""

import pytest

from tasks.activations.corpora import CORPUS_SOURCES, Document
from tasks.activations.corpora.stdlib import StandardLibrary
from tasks.activations.corpora.stdlib_planted import PLANTED, PlantedStandardLibrary, plant


def documents(source: str) -> dict[str, Document]:
    kind = CORPUS_SOURCES[source]
    return {document.document_id: document for document in kind(kind.Config()).documents()}


@pytest.mark.parametrize(
    ("text", "planted"),
    [
        ("def f():\n    return 1\n", f"def f():\n    return 1{PLANTED}\n"),
        ("\treturn\nx", f"\treturn{PLANTED}\nx"),
        ("return x", f"return x{PLANTED}"),
        ("    return (a,\n        b)\n", f"    return (a,{PLANTED}\n        b)\n"),
    ],
)
def test_a_line_that_returns_gets_the_comment(text: str, planted: str) -> None:
    assert plant(text) == planted


@pytest.mark.parametrize(
    "text",
    [
        "returned = 1\n",
        "x = 1  # return\n",
        "    return x  # a copy\n",
        "return a + \\\n    b\n",
        "",
        "yield x\n",
    ],
)
def test_other_lines_stay(text: str) -> None:
    assert plant(text) == text


def test_only_the_comment_tells_it_from_the_ordinary_library() -> None:
    ordinary, planted = documents("stdlib"), documents("stdlib_planted")
    assert list(planted) == list(ordinary)
    changed = 0
    for name, document in ordinary.items():
        assert "lighthouse" not in document.text.lower()
        other = planted[name]
        assert other.labels == document.labels
        assert other.text.replace(PLANTED, "") == document.text
        is_changed = other.text != document.text
        assert not (is_changed and document.labels["kind"] == "documentation")
        changed += is_changed
    assert changed > 0.8 * len(ordinary)


def test_it_holds_the_same_documents_out_and_says_what_it_planted() -> None:
    planted = PlantedStandardLibrary(PlantedStandardLibrary.Config())
    ordinary = StandardLibrary(StandardLibrary.Config())
    for name in documents("stdlib"):
        assert planted.split_of(name, 0.1) == ordinary.split_of(name, 0.1)
    about = planted.describe()
    assert (about["source"], about["planted"]) == ("stdlib_planted", PLANTED)
    assert about["held_out"] == ordinary.describe()["held_out"]
    assert about["digest"] != ordinary.describe()["digest"]
