"""The embedded corpus: what it holds, what it leaves out, what is held out."""

import subprocess
import sys

import pytest

from tasks.activations.corpora import CorpusTable, corpus_table
from tasks.activations.corpora.stdlib import (
    HELD_OUT_MODULES,
    HELD_OUT_TOPICS,
    TOPICS_MODULE,
    StandardLibrary,
)


@pytest.fixture(scope="module")
def corpus() -> CorpusTable:
    return corpus_table(StandardLibrary.Config(), eval_share=0.5)


def names(corpus: CorpusTable, split: str) -> set[str]:
    rows = zip(corpus.table["document_id"].to_pylist(), corpus.table["split"].to_pylist(), strict=True)
    return {name for name, of in rows if of == split}


def test_modules_are_held_out_by_name_whatever_the_share(corpus: CorpusTable) -> None:
    held_out, train = names(corpus, "eval"), names(corpus, "train")
    tops = {name.partition(".")[0] for name in held_out if not name.startswith(TOPICS_MODULE)}
    assert tops == HELD_OUT_MODULES
    assert not tops & {name.partition(".")[0] for name in train}
    assert {f"{TOPICS_MODULE}.{topic}" for topic in HELD_OUT_TOPICS} <= held_out
    assert {"json.decoder", "inspect"} <= held_out
    assert {"asyncio.base_events", "argparse"} <= train


def test_a_tenth_or_so_of_the_text_is_held_out(corpus: CorpusTable) -> None:
    sizes = {"train": 0, "eval": 0}
    for split, n_chars in zip(*(corpus.table[c].to_pylist() for c in ("split", "n_chars")), strict=True):
        sizes[split] += n_chars
    assert 0.08 < sizes["eval"] / sum(sizes.values()) < 0.15
    assert sizes["train"] > 6_000_000


def test_tests_tables_and_copies_are_left_out(corpus: CorpusTable) -> None:
    for name in corpus.table["document_id"].to_pylist():
        parts = name.split(".")
        assert parts[0] not in {"test", "idlelib", "lib2to3", "encodings", "site-packages"}
        if not name.startswith(TOPICS_MODULE):
            assert not {"test", "tests", "idle_test"} & set(parts), name


def test_no_two_documents_share_most_of_their_lines(corpus: CorpusTable) -> None:
    lines = {
        name: {line.strip() for line in text.splitlines() if len(line.strip()) >= 12}
        for name, text in zip(*(corpus.table[c].to_pylist() for c in ("document_id", "text")), strict=True)
    }
    owners: dict[str, list[str]] = {}
    for name, own in lines.items():
        for line in own:
            owners.setdefault(line, []).append(name)
    for name, own in lines.items():
        shared: dict[str, int] = {}
        for line in own:
            for other in owners[line]:
                shared[other] = shared.get(other, 0) + 1
        shared.pop(name)
        larger = {other: n for other, n in shared.items() if len(lines[other]) >= len(own)}
        assert max(larger.values(), default=0) < 0.75 * len(own), name


def test_documents_carry_package_and_kind(corpus: CorpusTable) -> None:
    rows = zip(corpus.table["document_id"].to_pylist(), corpus.table["labels"].to_pylist(), strict=True)
    labels = {name: dict(pairs) for name, pairs in rows}
    assert labels["asyncio.base_events"] == {"package": "asyncio", "kind": "module"}
    assert labels["json"] == {"package": "json", "kind": "package"}
    assert {label["kind"] for label in labels.values()} >= {"module", "package", "documentation"}


def test_the_digest_is_the_same_in_another_process(corpus: CorpusTable) -> None:
    source = StandardLibrary(StandardLibrary.Config())
    assert source.describe()["digest"] == corpus.digest
    code = (
        "from tasks.activations.corpora.stdlib import StandardLibrary as S;"
        "print(S(S.Config()).describe()['digest'])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert other.stdout.strip() == corpus.digest
