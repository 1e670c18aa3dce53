"""Converts rows of ``examples`` to bands of lines for the heat-map."""

from collections.abc import Mapping, Sequence
from typing import Any

from catalog.schemas import (
    DEFAULT_BANDS,
    NEIGHBOUR_BAND,
    RANDOM_BAND,
    TOP_BAND,
    firing_bands,
    quantile_number,
)
from dashboards.components.heatmap import Band, Line, group_tokens, peak_of

_OTHERS = {
    TOP_BAND: ("Strongest", "the largest activations found"),
    NEIGHBOUR_BAND: ("Silent, but similar", "it does not fire here, but its nearest features do"),
    RANDOM_BAND: ("Silent", "random text on which it does not fire"),
}
_FIFTHS = ("Strong", "Fairly strong", "Middling", "Fairly weak", "Weak")
_ORDINALS = ("top", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "lowest")
_PARTS = {5: "fifth", 10: "tenth"}


def band_words(band: str, n_bands: int | None = None) -> tuple[str, str]:
    """Title and note of a band; ``n_bands`` is the number of quantile bands, five if not known."""
    number = quantile_number(band)
    if number is None:
        return _OTHERS.get(band, (band, ""))
    n = n_bands or DEFAULT_BANDS
    ordinal = "lowest" if number == n else _ORDINALS[number - 1]
    part = f"{ordinal} {_PARTS.get(n, f'of {n} parts')}"
    if n == len(_FIFTHS):
        return _FIFTHS[number - 1], f"{part} of the contexts by activation"
    return part.capitalize(), "of the contexts by activation"


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


def bands_of(rows: Sequence[Mapping[str, Any]], n_bands: int | None = None) -> list[Band]:
    """Rows grouped by band, strongest band first, each in the order of its ranks; then the silent ones.

    ``n_bands`` is the number of quantile bands that their feature was mined with.
    """
    present = {row["band"] for row in rows}
    names = (*firing_bands(present), *(band for band in (NEIGHBOUR_BAND, RANDOM_BAND) if band in present))
    return [
        Band(*band_words(name, n_bands), tuple(line_of(row) for row in rows if row["band"] == name))
        for name in names
    ]


def band_of_side(rows: Sequence[Mapping[str, Any]], side: str) -> Band:
    """One side (``a`` or ``b``) of contexts that two features share, as one band."""
    return Band("First" if side == "a" else "Second", "", tuple(line_of(row, f"_{side}") for row in rows))
