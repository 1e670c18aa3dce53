"""Near-duplicates are found, counted and left out; texts that differ stay."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.activations.corpora import CORPUS_SOURCES, corpus_table
from tasks.activations.corpora.near_duplicates import WINDOW_BYTES, NearDuplicates, signature, window_hashes

HALVES = ("ka", "lo", "mi", "nu", "re", "ba", "do", "fi", "gu", "st")
WORDS = [first + last for first in HALVES for last in HALVES]


def text(seed: int, n_words: int = 300) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n_words))


def similarity(a: str, b: str) -> float:
    """The Jaccard similarity that is estimated, computed exactly."""
    ours, theirs = set(window_hashes(a).tolist()), set(window_hashes(b).tolist())
    return len(ours & theirs) / len(ours | theirs)


def edited(original: str, n_edits: int, seed: int = 1) -> str:
    words = original.split()
    for place in random.Random(seed).sample(range(len(words)), n_edits):
        words[place] = "other"
    return " ".join(words)


def test_windows_are_those_of_the_normalised_text() -> None:
    shown = "The  Quick\nbrown fox jumps over the lazy dog"
    assert np.array_equal(window_hashes(shown), window_hashes("the quick brown fox jumps over the lazy dog"))
    assert len(window_hashes("x" * 40)) == 1, "equal windows count once"
    assert len(window_hashes("a short one")) == len(window_hashes("")) == 1


def test_hashes_are_the_polynomials_of_the_windows() -> None:
    """Against the sum as the field writes it, with whole numbers of any size."""
    content = text(3, 40).encode()
    windows = [content[at : at + WINDOW_BYTES] for at in range(len(content) - WINDOW_BYTES + 1)]
    expected = set()
    for window in windows:
        value = 0
        for byte in window:
            value = (value * 0x5851F42D4C957F2D + byte) % 2**64
        value = ((value ^ value >> 29) * 0xBF58476D1CE4E5B9) % 2**64
        expected.add(value ^ value >> 32)
    assert window_hashes(content.decode()).tolist() == sorted(expected)


def test_a_signature_holds_the_smallest_hash_of_each_bin() -> None:
    hashes = window_hashes(text(4))
    bins = hashes >> np.uint64(57)
    own = signature(text(4))
    for number in np.unique(bins):
        assert own[number] == hashes[bins == number].min()


@pytest.mark.parametrize("n_edits", [0, 2, 5, 10, 40])
def test_the_estimate_is_near_the_exact_similarity(n_edits: int) -> None:
    pairs = [(text(seed), edited(text(seed), n_edits)) for seed in range(20)]
    errors = [float(np.mean(signature(a) == signature(b))) - similarity(a, b) for a, b in pairs]
    assert abs(np.mean(errors)) < 0.03, "no bias"
    assert max(map(abs, errors)) < 0.16, "four standard errors"


def test_short_texts_are_compared_as_well() -> None:
    kept = NearDuplicates(0.8)
    assert kept.is_new("return the value of x")
    assert kept.is_new("return the value of y")
    assert not kept.is_new("Return  the value of x")


def test_copies_are_left_out_and_others_stay() -> None:
    kept = NearDuplicates(0.8)
    assert all(kept.is_new(text(seed)) for seed in range(50))
    assert not any(kept.is_new(edited(text(seed), 2)) for seed in range(50))
    assert all(kept.is_new(edited(text(seed), 120)) for seed in range(50))


def test_both_kinds_of_copies_are_counted(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("corpus") / "texts.parquet"
    texts = [text(0), text(1), text(0), edited(text(1), 2), "  ", text(2)]
    pq.write_table(pa.table({"text": texts}), path)
    config = {"source": "parquet", "path": str(path), "text_column": "text"}
    corpus = corpus_table(CORPUS_SOURCES["parquet"].Config.model_validate(config), 0.1)
    assert (corpus.n_duplicates, corpus.n_near_duplicates, corpus.n_empty) == (1, 1, 1)
    assert corpus.table["document_id"].to_pylist() == ["row-00000000", "row-00000001", "row-00000005"]
    every = CORPUS_SOURCES["parquet"].Config.model_validate({**config, "near_duplicates": None})
    assert corpus_table(every, 0.1).table.num_rows == 4
