"""Latents with known rules on synthetic text: what an explainer should find, one family per kind of rule.

Neighbour negatives are near misses: windows where part of the rule holds and the latent is silent.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tasks.autointerp.lexicon.vocabulary import Vocabulary
from tasks.autointerp.lexicon.windows import NO_LABELS, Windows, build_windows

WORDS = tuple(
    " " + a + b
    for a in ("un", "re", "co", "tra", "pla", "mi", "so", "be", "fi", "gu")
    for b in ("der", "ning", "ly", "ter", "mont", "sk", "ble", "nd", "ration", "x")
)
CAPITALS = (" HTTP", " JSON", " API", " NASA", " SQL", " UTF")
TITLES = (" Paris", " Maria", " Friday", " Anna")
NUMBERS = (" 7", "12", " 2024", "305", " 81")
PUNCTUATION = (",", ".", ";", " (", ")", ":", " =")
GREEK = (" λόγος", " ἀρχή", " νοῦς")
KEYWORDS = (" def", " class", " return", " import", " self", " the", " of", " a", " to")
TOKENS = (*WORDS, *CAPITALS, *TITLES, *NUMBERS, *PUNCTUATION * 3, *GREEK, *KEYWORDS * 3, *("\n",) * 12)
CONTEXT = 32
SPECIAL = "<special>"
Tokens = list[str]
Labels = Mapping[str, str]
Rule = Callable[[Tokens, int, Labels], bool]


@dataclass(frozen=True)
class Planted:
    """A family: where the latent fires, and where it looks as if it might."""

    fires: Rule
    nearly: Rule


def _core(tokens: Tokens, i: int) -> str:
    return tokens[i].strip(" ")


def _before(tokens: Tokens, i: int, n: int = 1) -> str:
    return tokens[i - n] if i >= n else ""


def _after(tokens: Tokens, i: int) -> str:
    return tokens[i + 1] if i + 1 < len(tokens) else ""


FAMILIES: dict[str, Planted] = {
    "token": Planted(lambda t, i, _: t[i] == " import", lambda t, i, _: t[i] in KEYWORDS),
    "token_set": Planted(
        lambda t, i, _: t[i] in (" HTTP", " Maria", " gunder", ";"),
        lambda t, i, _: t[i] in (*CAPITALS, *TITLES, *PUNCTUATION),
    ),
    "prefix": Planted(lambda t, i, _: _core(t, i).startswith("un"), lambda t, i, _: t[i] in WORDS),
    "suffix": Planted(lambda t, i, _: _core(t, i).endswith("ning"), lambda t, i, _: t[i] in WORDS),
    "contains": Planted(lambda t, i, _: "mon" in t[i], lambda t, i, _: t[i].endswith(("sk", "nd"))),
    "after": Planted(
        lambda t, i, _: t[i] in WORDS and _before(t, i) == " the",
        lambda t, i, _: t[i] in WORDS and _before(t, i) in (" of", " a", " to"),
    ),
    "before": Planted(
        lambda t, i, _: t[i] in WORDS and _after(t, i) == " (",
        lambda t, i, _: t[i] in WORDS and _after(t, i) in PUNCTUATION,
    ),
    "casing": Planted(lambda t, i, _: t[i] in CAPITALS, lambda t, i, _: t[i] in TITLES),
    "digits": Planted(lambda t, i, _: _core(t, i).isdigit(), lambda t, i, _: t[i] in PUNCTUATION),
    "other_script": Planted(lambda t, i, _: t[i] in GREEK, lambda t, i, _: t[i] in TITLES),
    "line_start": Planted(
        lambda t, i, _: t[i] in WORDS and _before(t, i) == "\n",
        lambda t, i, _: t[i] in WORDS and _before(t, i, 2) == "\n",
    ),
    "label": Planted(
        lambda t, i, labels: t[i] == " return" and labels["language"] == "fr",
        lambda t, i, labels: t[i] == " return",
    ),
    "repeat": Planted(
        lambda t, i, _: t[i] in WORDS and t[i] in t[max(0, i - 8) : i],
        lambda t, i, _: t[i] in WORDS,
    ),
    "nearby": Planted(
        lambda t, i, _: t[i] == "." and " class" in t[max(0, i - 5) : i],
        lambda t, i, _: t[i] == ".",
    ),
}


@dataclass
class Corpus:
    """Documents of random tokens with a language label and a fixed half for explaining and scoring."""

    seed: int
    n_documents: int = 300
    n_tokens: int = 160
    documents: dict[str, Tokens] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        for number in range(self.n_documents):
            tokens = rng.choices(TOKENS, k=self.n_tokens)
            for i in range(10, self.n_tokens, 25):
                tokens[i] = tokens[i - rng.randint(2, 6)]
            self.documents[f"d{number}"] = tokens
            self.labels[f"d{number}"] = {"language": rng.choice(["fr", "en", "de"]), "name": f"d{number}"}

    def split(self, document: str) -> str:
        """Disjoint by construction."""
        return "explain" if int(document[1:]) % 2 else "score"


def examples(corpus: Corpus, families: Iterable[Planted], *, n_per_half: int = 30, seed: int = 0) -> pa.Table:
    """The ``examples`` rows of one latent per family, feature indices counted from 0."""
    rows: list[dict[str, object]] = []
    for index, planted in enumerate(families):
        rng = random.Random(f"{seed}/{index}")
        for split in ("explain", "score"):
            for band, n, wanted in (
                ("top", n_per_half, True),
                ("q3", n_per_half, True),
                ("random", n_per_half, False),
                ("neighbour", n_per_half, False),
            ):
                found = _windows(corpus, planted, split, band, n, wanted, rng)
                rows += [{"feature_index": index, "band": band, **row} for row in found]
    ranks: dict[tuple[object, object], int] = {}
    for row in rows:
        key = (row["feature_index"], row["band"])
        row["rank"] = ranks[key] = ranks.get(key, -1) + 1
    return pa.Table.from_pylist(rows)


def features(n: int) -> pa.Table:
    """The ``features`` rows that evidence reads."""
    return pa.table(
        {
            "feature_index": pa.array(range(n), pa.int32()),
            "status": ["alive"] * n,
            "max_activation": pa.array([1.0] * n, pa.float32()),
            "density": [0.01] * n,
        }
    )


def _windows(
    corpus: Corpus, planted: Planted, split: str, band: str, n: int, wanted: bool, rng: random.Random
) -> list[dict[str, object]]:
    """Up to ``n`` windows of a split in which the latent fires (or not, near a near miss)."""
    places = []
    for document, tokens in corpus.documents.items():
        if corpus.split(document) != split:
            continue
        labels = corpus.labels[document]
        for i in range(len(tokens)):
            is_place = {
                "random": rng.random() < 0.02,
                "neighbour": planted.nearly(tokens, i, labels),
            }.get(band, planted.fires(tokens, i, labels))
            if is_place:
                places.append((document, i))
    rng.shuffle(places)
    rows: list[dict[str, object]] = []
    for document, i in places:
        row = _window(corpus, planted, document, i, rng)
        if (max(row["activations"]) > 0) == wanted:  # type: ignore[call-overload]
            rows.append({**row, "split": split})
        if len(rows) == n:
            break
    return rows


def _window(corpus: Corpus, planted: Planted, document: str, i: int, rng: random.Random) -> dict[str, object]:
    tokens, labels = corpus.documents[document], corpus.labels[document]
    start = max(0, min(i - rng.randint(8, CONTEXT - 8), len(tokens) - CONTEXT))
    inside = range(start, start + CONTEXT)
    activations = [rng.uniform(0.5, 1.0) * planted.fires(tokens, j, labels) for j in inside]
    return {
        "tokens": [tokens[j] for j in inside],
        "activations": activations,
        "peak_position": max(range(CONTEXT), key=lambda j: activations[j]),
        "max_activation": max(activations),
        "document_id": document,
        "char_start": sum(len(token) for token in tokens[:start]),
        "token_start": start,
    }


def windows_of(
    texts: Sequence[Sequence[str]],
    activations: Sequence[Sequence[float]] | None = None,
    documents: Sequence[str] | None = None,
    labels: Mapping[str, Mapping[str, str]] = NO_LABELS,
    starts: Sequence[int] | None = None,
) -> Windows:
    """Windows from plain lists of token texts; ``starts`` are positions in document and context.

    The text `SPECIAL` stands for a special token.
    """
    distinct = sorted({token for text in texts for token in text} - {SPECIAL})
    position = {text: i + 1 for i, text in enumerate([*distinct, SPECIAL])}
    length_W = np.asarray([len(text) for text in texts], np.int32)
    values = activations if activations is not None else [[0.0] * len(text) for text in texts]
    starts_W = np.asarray(starts if starts is not None else [1] * len(texts), np.int32)
    return build_windows(
        Vocabulary(distinct, [""]),
        np.asarray([position[token] for text in texts for token in text], np.int32),
        np.asarray([value for row in values for value in row], np.float32),
        length_W,
        peak_W=np.asarray([int(np.argmax(row)) if len(row) else 0 for row in values], np.int32),
        document_start_W=starts_W == 0,
        text_before_W=starts_W,
        document_W=np.asarray(documents or [str(i) for i in range(len(texts))], object),
        labels=labels,
    )


def distinct(n: int, *, n_per_half: int = 6) -> pa.Table:
    """``examples`` rows of ``n`` latents, each firing on one token of its own, ``feat0`` to ``feat<n-1>``."""
    rows = []
    for index in range(n):
        for band, fires in (("top", True), ("q2", True), ("random", False), ("neighbour", False)):
            for rank in range(2 * n_per_half):
                word = f" feat{index}" if fires else f" none{index}"
                tokens = [" some", " words", word, f" number{rank}", f" {band}"]
                rows.append(
                    {
                        "feature_index": index,
                        "band": band,
                        "rank": rank,
                        "tokens": tokens,
                        "activations": [0.0, 0.0, 1.0 * fires, 0.0, 0.0],
                        "peak_position": 2,
                        "max_activation": 1.0 * fires,
                        "document_id": f"d{rank}",
                        "char_start": 7,
                        "token_start": 3,
                        "split": "explain" if rank % 2 else "score",
                    }
                )
    return pa.Table.from_pylist(rows)
