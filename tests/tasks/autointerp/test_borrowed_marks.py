"""Marks alone tell nothing: judges that count, measure or place them are at a half."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from tasks.autointerp.borrowed_marks import borrow, kind_of
from tasks.autointerp.lexicon.vocabulary import Bools
from tests.tasks.autointerp.planted import CONTEXT, FAMILIES, Corpus, Planted

N_ITEMS = 20
PEAK = 10
"""Where the peak stands in a mined context, unless the document begins or ends there."""

Context = tuple[list[str], Bools]


def runs(marks: Bools) -> list[int]:
    """Lengths of the runs of marked tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]]).astype(int)))
    return [int(n) for n in edges[1::2] - edges[::2]]


def share(tokens: list[str], marks: Bools, kinds: set[int]) -> float:
    """Of the marked tokens, the share of these kinds."""
    return float(np.mean([kind_of(tokens[i]) in kinds for i in np.flatnonzero(marks)]))


JUDGES: dict[str, Callable[[list[str], Bools], float]] = {
    "number of marks": lambda tokens, marks: float(marks.sum()),
    "number of runs": lambda tokens, marks: float(len(runs(marks))),
    "longest run": lambda tokens, marks: float(max(runs(marks))),
    "first mark": lambda tokens, marks: float(marks.argmax()),
    "mean place": lambda tokens, marks: float(np.flatnonzero(marks).mean()),
    "characters before": lambda tokens, marks: float(len("".join(tokens[: int(marks.argmax())]))),
    "length of the text": lambda tokens, marks: float(len("".join(tokens))),
    "marked punctuation": lambda tokens, marks: share(tokens, marks, {2}),
    "marked white space": lambda tokens, marks: share(tokens, marks, {0, 1}),
    "marked beginnings of words": lambda tokens, marks: share(tokens, marks, {3}),
}


def auroc(positive: list[float], negative: list[float]) -> float:
    """Share of pairs in the right order, ties half: 0.5 for a judge that knows nothing."""
    a, b = np.asarray(positive)[:, None], np.asarray(negative)[None, :]
    return float(((a > b) + 0.5 * (a == b)).mean())


def contexts(corpus: Corpus, planted: Planted, fires: bool, rng: random.Random) -> list[Context]:
    """Contexts with the peak at its usual place, or silent ones cut as mining does."""
    found: list[Context] = []
    while len(found) < N_ITEMS:
        name = rng.choice(list(corpus.documents))
        tokens, labels = corpus.documents[name], corpus.labels[name]
        place = rng.randrange(len(tokens))
        if fires and not planted.fires(tokens, place, labels):
            continue
        start = max(0, min(place - PEAK, len(tokens) - CONTEXT))
        marks = np.asarray([planted.fires(tokens, j, labels) for j in range(start, start + CONTEXT)])
        if bool(marks.any()) == fires:
            found.append((tokens[start : start + CONTEXT], marks))
    return found


@pytest.fixture(scope="module")
def items() -> dict[str, tuple[list[list[str]], Bools, Bools]]:
    """Tokens, marks and truth of every family's items, drawn several times."""
    corpus, rng = Corpus(seed=3), random.Random(0)
    drawn = {}
    for name, planted in FAMILIES.items():
        for again in range(4):
            both = [*contexts(corpus, planted, True, rng), *contexts(corpus, planted, False, rng)]
            tokens, truth = [t for t, _ in both], np.arange(2 * N_ITEMS) < N_ITEMS
            marks = borrow(tokens, np.stack([m for _, m in both]), truth, np.random.default_rng(again))
            drawn[f"{name}/{again}"] = tokens, marks, truth
    return drawn


@pytest.mark.parametrize("judge", JUDGES)
def test_judges_that_do_not_read_the_label_are_at_a_half(
    judge: str, items: dict[str, tuple[list[list[str]], Bools, Bools]]
) -> None:
    found = []
    for tokens, marks, truth in items.values():
        values = [JUDGES[judge](t, m) for t, m in zip(tokens, marks, strict=True)]
        found.append(
            auroc([v for v, t in zip(values, truth) if t], [v for v, t in zip(values, truth) if not t])  # noqa: B905
        )
    assert np.mean(found) == pytest.approx(0.5, abs=0.04), found
    if judge in ("number of marks", "number of runs", "longest run"):
        assert found == [0.5] * len(found)


def test_true_marks_stay_and_silent_contexts_have_some(
    items: dict[str, tuple[list[list[str]], Bools, Bools]],
) -> None:
    for name, (tokens, marks, truth) in items.items():
        assert marks.any(axis=1).all()
        if name.startswith("token/"):
            assert all(t[int(m.argmax())] == " import" for t, m, fires in zip(tokens, marks, truth) if fires)  # noqa: B905


def test_marks_keep_their_kind_of_token_where_there_is_one() -> None:
    tokens = [["a", " b", ",", " c"], [".", " d", " e", " f"], [" d", " e", " f"]]
    marked = np.asarray([[False, False, True, False]] + [[False] * 4] * 2)
    truth = np.asarray([True, False, False])
    marks = borrow(tokens, marked, truth, np.random.default_rng(0))
    assert marks.tolist() == [
        [False, False, True, False],
        [True, False, False, False],
        [False, False, True, False],
    ]


def test_a_short_context_is_marked_as_far_as_it_goes() -> None:
    tokens = [["a", "b", "c", "d"], ["x", "y"]]
    marks = borrow(
        tokens, np.asarray([[True] * 4, [False] * 4]), np.asarray([True, False]), np.random.default_rng(0)
    )
    assert marks.tolist() == [[True] * 4, [True, True, False, False]]


def test_items_of_one_class_have_nothing_to_borrow() -> None:
    marked = np.asarray([[True, False]])
    assert borrow([["a", "b"]], marked, np.asarray([True]), np.random.default_rng(0)).tolist() == [
        [True, False]
    ]
    assert not borrow([["a", "b"]], marked, np.asarray([False]), np.random.default_rng(0)).any()


@pytest.mark.parametrize(
    ("text", "kind"), [("", 0), (" \n", 1), (" (", 2), ("_", 2), (" the", 3), ("ing", 4)]
)
def test_kinds_of_tokens(text: str, kind: int) -> None:
    assert kind_of(text) == kind
