"""The documents for explaining a feature and those for scoring an explanation: never both."""

import hashlib
from collections.abc import Iterable

import numpy as np

from catalog.schemas import ExampleSplit

EXPLAIN, SCORE = 0, 1
SPLITS: tuple[ExampleSplit, ExampleSplit] = ("explain", "score")

_SALT = b"featlas example split\0"


def example_split(document_id: str, explain_share: float = 0.5) -> ExampleSplit:
    """The split of every example of a document, a function of only the document's id."""
    digest = hashlib.sha256(_SALT + document_id.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "explain" if share < explain_share else "score"


def split_codes(document_ids: Iterable[str], explain_share: float = 0.5) -> np.ndarray:
    """``example_split`` of each document as an int8 array: 0 explain, 1 score."""
    codes = (EXPLAIN if example_split(d, explain_share) == "explain" else SCORE for d in document_ids)
    return np.fromiter(codes, dtype=np.int8)
