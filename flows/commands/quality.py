"""The quality of a dictionary's labels, as text for the terminal."""

from collections.abc import Mapping
from typing import Any


def above_chance(row: Mapping[str, Any]) -> str:
    """How many labels of a row of ``page_dictionaries`` beat chance, and how many of random directions do."""
    n_firing = row["n_features"] - row["n_unseen"]
    if not n_firing:
        return "0 above chance"
    said = f"{row['n_above_chance']:,} above chance ({row['n_above_chance'] / n_firing:.0%}"
    if row["random_above_share"] is not None:
        said += f"; of random directions {row['random_above_share']:.0%}"
    return f"{said})".replace("%", " %")
