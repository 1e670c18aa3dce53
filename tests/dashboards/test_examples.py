"""From stored contexts to lines of the heat-map."""

import math
from types import ModuleType

from dashboards.components.examples import BANDS, bands_of
from dashboards.components.heatmap import group_tokens, heatmap_data, peak_of


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
    assert titles == [BANDS[name][0] for name in ("top", "q1", "q3", "q5", "neighbour", "random")]


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
