"""The data layer: one engine, a cursor per call, cached by the catalogue's version."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from catalog import queries
from dashboards import data

SESSIONS, CALLS = 8, 15


@pytest.fixture
def current(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> data.Catalogue:
    """The synthetic catalogue as the pages see it."""
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
    return data.current()


def test_eight_sessions_never_get_each_others_rows(current: data.Catalogue, synthetic: ModuleType) -> None:
    """Each call asks for its own feature; every row that comes back must be of that feature."""
    dictionary = synthetic.dictionary_of("pico-a")

    def session(number: int) -> list[tuple[int, set[int]]]:
        answers = []
        for call in range(CALLS):
            index = (number * 17 + call) % synthetic.N_FEATURES
            key = {"dictionary_id": dictionary, "feature_index": index}
            rows = data.read(current.root, current.version, queries.feature(**key))
            answers.append((index, {row["feature_index"] for row in rows}))
        return answers

    with ThreadPoolExecutor(SESSIONS) as pool:
        answers = [answer for part in pool.map(session, range(SESSIONS)) for answer in part]
    assert len(answers) == SESSIONS * CALLS
    assert all(found == {asked} for asked, found in answers)


def test_examples_come_from_the_files_of_their_block_only(
    current: data.Catalogue, synthetic: ModuleType
) -> None:
    dictionary = synthetic.dictionary_of("pico-b")
    files = data.example_files(current, dictionary, 5)
    assert len(files) == 1
    assert "feature_block=0" in files[0]
    assert data.example_files(current, dictionary, 5_000) == ()
    assert data.examples(current, dictionary, synthetic.activation_set_of("pico-b"), 5_000) == []
    rows = data.examples(current, dictionary, synthetic.activation_set_of("pico-b"), 5)
    assert len(rows) == 32


def test_a_result_is_a_copy(current: data.Catalogue) -> None:
    first = data.rows(current, queries.models())
    first[0]["model_id"] = "changed by a page"
    assert data.rows(current, queries.models())[0]["model_id"] != "changed by a page"
