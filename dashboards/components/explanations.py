"""The explanations of a feature below its name: the newest in full, judged items on demand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboards.components import explanation_parts as parts
from dashboards.components.blocks import heading, quiet
from dashboards.components.canvas import draw

Row = Mapping[str, Any]
SHOWN = 2


def draw_explanations(
    explanations: Sequence[Row],
    scores: Sequence[Row],
    examples: Sequence[Row],
    n_bands: int | None,
    judgements_of: Callable[[str], Sequence[Row]],
) -> None:
    """Every explanation over time, the one on the feature's card first; older ones are folded."""
    draw(heading("Explanations", f"{len(explanations)} over time"), key="explanations-title")
    if not explanations:
        draw(quiet("This feature has no explanation yet."), key="no-explanations")
    ordered = sorted(explanations, key=lambda row: not row["is_label"])
    for row in ordered[:SHOWN]:
        _draw(row, scores, examples, n_bands, judgements_of)
    if ordered[SHOWN:]:
        with st.expander(f"{len(ordered) - SHOWN} more explanations"):
            for row in ordered[SHOWN:]:
                _draw(row, scores, examples, n_bands, judgements_of)


def _draw(
    row: Row,
    scores: Sequence[Row],
    examples: Sequence[Row],
    n_bands: int | None,
    judgements_of: Callable[[str], Sequence[Row]],
) -> None:
    named = row["explanation_id"]
    draw(parts.explanation(row, scores), key=f"explanation-{named}")
    own = [score for score in scores if score["explanation_id"] == named]
    if not own:
        return
    with st.expander("Scores and judged items", key=f"scores-{named}", on_change="rerun") as unfolded:
        if unfolded.open:
            judged = judgements_of(named)
            tables = [parts.score_table(own)]
            tables += [parts.judgement_table(judged, examples, n_bands)] if judged else []
            draw(*tables, key=f"judged-{named}")
