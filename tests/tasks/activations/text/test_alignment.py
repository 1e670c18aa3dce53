"""Segments common to two tokenizers."""

import json
from pathlib import Path

import numpy as np

from tasks.activations.text.alignment import TextTokens, common_segments

GOLDEN = json.loads((Path(__file__).resolve().parents[3] / "golden" / "matching.json").read_text())


def tokens(spans: list[tuple[int, int]], document: int = 0, valid: list[bool] | None = None) -> TextTokens:
    n = len(spans)
    return TextTokens(
        row=np.zeros(n, dtype=np.int64),
        position=np.arange(n),
        end=np.array([document * (1 << 32) + end for _, end in spans], dtype=np.int64),
        valid=np.array(valid if valid is not None else [True] * n),
    )


def pooled(segment_of: np.ndarray, values: list[float], n: int) -> list[float]:
    result = np.zeros(n)
    kept = segment_of >= 0
    np.maximum.at(result, segment_of[kept], np.array(values)[kept])
    return result.tolist()


def test_golden_vector_of_token_alignment() -> None:
    case = GOLDEN["G26_token_alignment"]
    segments = common_segments(tokens(case["spans_a"]), tokens(case["spans_b"]))
    assert segments.n == len(case["segments"])
    assert pooled(segments.of_a, case["acts_a"], segments.n) == case["pooled_a"]
    assert pooled(segments.of_b, case["acts_b"], segments.n) == case["pooled_b"]


def test_a_left_out_token_drops_its_segment() -> None:
    a = tokens([(0, 2), (2, 7), (7, 12)], valid=[False, True, True])
    b = tokens([(0, 3), (3, 7), (7, 10), (10, 12)])
    segments = common_segments(a, b)
    assert segments.n == 1
    assert segments.of_a.tolist() == [-1, -1, 0]
    assert segments.of_b.tolist() == [-1, -1, 0, 0]


def test_tokens_past_the_last_common_end_belong_to_no_segment() -> None:
    segments = common_segments(tokens([(0, 3), (3, 9)]), tokens([(0, 3), (3, 5)]))
    assert segments.of_a.tolist() == [0, -1]
    assert segments.of_b.tolist() == [0, -1]


def test_documents_never_share_a_segment() -> None:
    segments = common_segments(tokens([(0, 3)], document=1), tokens([(0, 3)], document=2))
    assert segments.n == 0
    assert segments.of_a.tolist() == [-1]
