"""Dictionaries of the catalogue are found by alias, id or glob, and a wrong name leads to the right one."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from catalog.errors import CatalogueError, UserError
from catalog.ledger import Ledger
from catalog.store import SliceWrite
from tasks.support.aliases import alias_write, point_alias
from tasks.support.catalogued import find_dictionaries
from tests.catalog import small

TOPK = "pico-a/blocks.2.resid_post/topk-x8-k16-s0"
LATE = "pico-a/blocks.3.resid_post/topk-x8-k16-s0"
OTHER = "pico-b/blocks.2.resid_post/topk-x8-k16-s0"
IMPORTED = "pico-b/blocks.2.resid_post/saelens-mine"


def store(
    root: Path, alias: str, number: int = 0, stage: str = "train_dictionary", architecture: str = "topk"
) -> str:
    """Commit a dictionary as its stage does; return its id."""
    dictionary_id = f"{alias}-{number:08d}"
    row = small.dictionary(dictionary_id, alias=alias, architecture=architecture)
    point = {"model_id": alias.split("/")[0], "hookpoint": alias.split("/")[1]}
    facts = {"dictionary_id": dictionary_id, "alias": alias, "reads": [point], "writes": [point]}
    with Ledger(root).claim(stage, 1, alias, {"alias": alias, "n": number}, []) as claim:
        claim.commit(
            [SliceWrite("dictionaries", dictionary_id, row), alias_write(alias, dictionary_id)],
            facts={**facts, "place": point["hookpoint"], "corpus_id": "texts"},
        )
    return dictionary_id


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for alias in (TOPK, LATE, OTHER):
        store(tmp_path, alias)
    store(tmp_path, TOPK, 1)
    store(tmp_path, IMPORTED, stage="import_dictionary")
    return tmp_path


def found(root: Path, *patterns: str) -> list[str]:
    return [str(outcome.facts["dictionary_id"]) for outcome in find_dictionaries(root, patterns)]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([TOPK], [f"{TOPK}-00000001"]),
        ([f"{TOPK}-00000000"], [f"{TOPK}-00000000"]),
        (["pico-a/*"], [f"{TOPK}-00000001", f"{LATE}-00000000"]),
        (["*/blocks.3.*", "pico-a/*"], [f"{LATE}-00000000", f"{TOPK}-00000001"]),
        (["*-00000001"], [f"{TOPK}-00000001"]),
        (["pico-?/blocks.[12].resid_post/*-s0"], [f"{TOPK}-00000001", f"{OTHER}-00000000"]),
        (["*saelens*"], [f"{IMPORTED}-00000000"]),
        ([TOPK, TOPK, f"{TOPK}-00000001"], [f"{TOPK}-00000001"]),
        ([], []),
    ],
    ids=["alias", "id", "glob", "two", "id glob", "class", "imported", "once", "none"],
)
def test_a_name_finds_its_dictionaries(root: Path, patterns: Sequence[str], expected: list[str]) -> None:
    assert found(root, *patterns) == expected


def test_an_alias_means_what_it_was_last_assigned_to(root: Path) -> None:
    assert point_alias(root, TOPK, f"{TOPK}-00000000")
    assert found(root, "pico-a/blocks.2.*", TOPK) == [f"{TOPK}-00000000"]


def test_what_is_found_is_what_the_stage_returned(root: Path) -> None:
    (outcome,) = find_dictionaries(root, [IMPORTED])
    assert (outcome.stage, outcome.recomputed) == ("import_dictionary", False)
    assert outcome == Ledger(root).outcome(outcome.fingerprint)


@pytest.mark.parametrize(
    ("wrong", "close"),
    [(TOPK.replace("k16", "k17"), TOPK), ("pico-c/*", "pico-"), ("saelens-nine", IMPORTED), ("", "pico-")],
)
def test_a_name_that_finds_nothing_is_one_sentence_with_close_names(
    root: Path, wrong: str, close: str
) -> None:
    with pytest.raises(UserError) as refused:
        find_dictionaries(root, [TOPK, wrong])
    said, _, names = str(refused.value).partition("; close names are ")
    assert said.endswith(repr(wrong))
    assert close in names
    assert "-0000000" not in names, "aliases, not ids"


def test_an_empty_catalogue_says_to_run_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has none yet, run a pipeline first"):
        find_dictionaries(tmp_path / "none", ["*"])
    assert not (tmp_path / "none").exists()


def test_a_lost_record_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "outcome", lambda *_: None)
    with pytest.raises(CatalogueError, match=r"record of how .* is lost: run `featlas repair`"):
        find_dictionaries(root, [TOPK])
