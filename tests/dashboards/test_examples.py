"""From stored contexts to lines of the heat-map."""

import math
from types import ModuleType

import pytest

from dashboards.components.examples import band_words, bands_of, line_of
from dashboards.components.heatmap import Band, Line, Token, group_tokens, heatmap_data, peak_of


def test_tokens_of_one_character_are_one_unit() -> None:
    grouped = group_tokens(["a", "👩", "", "", " b"], [1, 2, 3, 4, 5], [0.0, 1.0, 3.0, 0.0, 2.0])
    assert [token.text for token in grouped] == ["a", "👩", " b"]
    assert grouped[1].token_ids == (2, 3, 4)
    assert grouped[1].activation == 3.0
    assert [token.split for token in grouped] == [False, True, False]
    assert [peak_of(["a", "👩", "", "", " b"], position) for position in range(5)] == [0, 1, 1, 1, 2]


def test_the_text_of_a_line_is_the_text_of_the_document(synthetic: ModuleType) -> None:
    rows = list(synthetic.example_rows(4))
    for band in bands_of(rows):
        for line in band.lines:
            text = "".join(token.text for token in line.tokens)
            number = int(line.document_id.removeprefix("doc-"))
            assert text == synthetic.document_text(number)[line.char_start : line.char_end]


def test_bands_come_in_the_order_of_evidence(synthetic: ModuleType) -> None:
    titles = [band.title for band in bands_of(list(synthetic.example_rows(4)))]
    assert titles == [band_words(name)[0] for name in ("top", "q1", "q3", "q5", "neighbour", "random")]


def test_ten_bands_have_words_of_their_own_and_the_order_of_evidence(synthetic: ModuleType) -> None:
    rows = [row for row in synthetic.example_rows(4) if row["band"] in ("q1", "top", "random")]
    rows += [{**row, "band": band} for row in rows if row["band"] == "q1" for band in ("q10", "q2")]
    titles = [band.title for band in bands_of(rows, 10)]
    assert titles == ["Strongest", "Top tenth", "Second tenth", "Lowest tenth", "Silent"]
    assert [band_words(f"q{n}", 5)[1].split()[1] for n in range(1, 6)] == ["fifth"] * 5
    assert len({band_words(f"q{n}", 10) for n in range(1, 11)}) == 10


def test_colour_is_the_root_of_the_share_of_the_features_maximum(synthetic: ModuleType) -> None:
    largest = synthetic.feature_row(4)["max_activation"]
    data = heatmap_data(bands_of(list(synthetic.example_rows(4))), largest)
    first, weak = data["bands"][0]["lines"][0], data["bands"][3]["lines"][0]
    assert max(token["heat"] for token in first["tokens"]) == 1.0
    assert max(token["heat"] for token in weak["tokens"]) == round(math.sqrt(0.1), 4)
    silent = data["bands"][-1]["lines"][0]
    assert silent["peak"] is None
    assert {token["heat"] for token in silent["tokens"]} == {0.0}


def test_a_feature_without_scale_is_drawn_without_colour(synthetic: ModuleType) -> None:
    data = heatmap_data(bands_of(list(synthetic.example_rows(4))), 0.0)
    assert {
        token["heat"] for band in data["bands"] for line in band["lines"] for token in line["tokens"]
    } == {0.0}


def test_a_special_token_is_a_mark_of_its_own() -> None:
    texts, special = ["", "Ü", "", "", "<|user|>", "", "a"], [True, False, False, True, True, False, False]
    grouped = group_tokens(texts, range(7), [3.0, 1.0, 2.0, 0.0, 5.0, 0.0, 0.0], special)
    assert [token.token_ids for token in grouped] == [(0,), (1, 2), (3,), (4,), (5,), (6,)]
    assert [token.special for token in grouped] == [True, False, True, True, False, False]
    assert [peak_of(texts, place, special) for place in range(7)] == [0, 1, 1, 2, 3, 4, 5]
    row = {
        "tokens": texts,
        "token_ids": list(range(7)),
        "activations": [0.0] * 7,
        "is_special": special,
        "text_before": 3,
        "peak_position": 4,
        "max_activation": 5.0,
        "document_id": "d",
        "char_start": 0,
        "char_end": 2,
        "split": "explain",
        "band": "top",
        "rank": 0,
    }
    drawn = heatmap_data([Band("", "", (line_of(row),))], 5.0)["bands"][0]["lines"][0]
    assert [token["runs"] for token in drawn["tokens"]] == [
        [["special 0", True]],
        [["Ü", False]],
        [["special 3", True]],
        [["<|user|>", True]],
        [["∅", True]],
        [["a", False]],
    ]
    assert drawn["tokens"][0]["tip"][0] == "special 0"
    assert drawn["peak"] == 3


@pytest.mark.parametrize(
    ("first", "char_start", "text_before", "goes_on"),
    [
        ("Once", 0, 0, False),
        ("Once", 0, None, False),
        (" word", 7, 2, True),
        (" word", 7, 0, False),
        ("ord", 7, 0, True),
        (" word", 7, None, True),
    ],
)
def test_the_mark_before_a_context_follows_what_the_model_read(
    first: str, char_start: int, text_before: int | None, goes_on: bool
) -> None:
    tokens = (Token("", 0.0, (0,), (0.0,), special=True), Token(first, 1.0, (5,), (1.0,)))
    line = Line(tokens, 1, 1.0, "d", char_start, char_start + 4, "explain", text_before=text_before)
    assert line.cut[0] is goes_on
