"""Converts rows of ``examples`` to bands of lines for the heat-map."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.components.heatmap import Band, Line, group_tokens, peak_of

BANDS = {
    "top": ("Strongest", "the largest activations found"),
    "q1": ("Strong", "top fifth of the range of activations"),
    "q2": ("Fairly strong", "second fifth"),
    "q3": ("Middling", "third fifth"),
    "q4": ("Fairly weak", "fourth fifth"),
    "q5": ("Weak", "lowest fifth"),
    "neighbour": ("Silent, but similar", "it does not fire here, but its nearest features do"),
    "random": ("Silent", "random text on which it does not fire"),
}


def name_of(row: Mapping[str, Any]) -> str:
    """The name of an example in the address of a page, from its row or from that of a judged item."""
    return f"{row['band']}-{row['rank']}"


def line_of(row: Mapping[str, Any], suffix: str = "") -> Line:
    """One stored context as a line; ``suffix`` selects a side of a joined row."""
    texts = list(row[f"tokens{suffix}"])
    peak_key, most_key = (
        ("peak_position", "max_activation") if not suffix else (f"peak{suffix}", f"max{suffix}")
    )
    most = float(row[most_key])
    special = row.get(f"is_special{suffix}")
    tokens = group_tokens(texts, row[f"token_ids{suffix}"], row[f"activations{suffix}"], special)
    return Line(
        tokens=tuple(tokens),
        peak=peak_of(texts, row[peak_key], special) if most > 0 else len(tokens) // 2,
        max_activation=most,
        document_id=str(row["document_id"]),
        char_start=int(row[f"char_start{suffix}"]),
        char_end=int(row[f"char_end{suffix}"]),
        split=str(row[f"split{suffix}"]),
        name="" if suffix else name_of(row),
        text_before=row.get(f"text_before{suffix}"),
    )


def bands_of(rows: Sequence[Mapping[str, Any]]) -> list[Band]:
    """Rows grouped by band in the order of ``BANDS``, each band in the order of its ranks."""
    bands = []
    for name, (title, note) in BANDS.items():
        lines = [line_of(row) for row in rows if row["band"] == name]
        if lines:
            bands.append(Band(title, note, tuple(lines)))
    return bands


def band_of_side(rows: Sequence[Mapping[str, Any]], side: str) -> Band:
    """One side (``a`` or ``b``) of contexts that two features share, as one band."""
    return Band("First" if side == "a" else "Second", "", tuple(line_of(row, f"_{side}") for row in rows))
