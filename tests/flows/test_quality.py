"""What the terminal says of the labels of a dictionary."""

import pytest

from flows.commands.quality import above_chance

ROW = {"n_features": 120, "n_unseen": 20, "n_above_chance": 89, "random_above_share": 0.63}
ROW |= {"n_above_floors": None, "n_floors": 3}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "89 above chance (89 %; of random directions 63 %)"),
        ({"random_above_share": None}, "89 above chance (89 %)"),
        (
            {"n_above_floors": 31},
            "89 above chance (89 %; of random directions 63 %), 31 above all 3 floors (31 %)",
        ),
        ({"n_features": 0, "n_unseen": 0, "n_above_chance": 0}, "0 above chance"),
    ],
)
def test_the_share_above_chance_stands_beside_that_of_random_directions(
    changed: dict[str, float | None], said: str
) -> None:
    assert above_chance({**ROW, **changed}) == said
