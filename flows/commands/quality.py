"""The quality of a dictionary's labels, as text for the terminal."""

from collections.abc import Mapping
from typing import Any


def above_chance(row: Mapping[str, Any]) -> str:
    """How many labels of a dictionary beat chance, how many of random directions do, and all floors."""
    n_firing = row["n_features"] - row["n_unseen"]
    if not n_firing:
        return "0 above chance"
    said = f"{row['n_above_chance']:,} above chance ({row['n_above_chance'] / n_firing:.0%}"
    if row["random_above_share"] is not None:
        said += f"; of random directions {row['random_above_share']:.0%}"
    said += ")"
    if row["n_above_floors"] is not None:
        floors = f"above all {row['n_floors']} floors" if row["n_floors"] > 1 else "above its floor"
        said += f", {row['n_above_floors']:,} {floors} ({row['n_above_floors'] / n_firing:.0%})"
    return said.replace("%", " %")
