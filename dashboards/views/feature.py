"""Feature: what is this one, and should I believe it?"""

import streamlit as st

from dashboards import data, frame, links
from dashboards.components import explanation_parts, feature_parts
from dashboards.components.blocks import heading, notice
from dashboards.components.canvas import draw
from dashboards.components.document import document_dialog
from dashboards.components.examples import bands_of
from dashboards.components.heatmap import draw_heatmap
from dashboards.components.markup import el
from dashboards.components.sql_text import draw_sql
from dashboards.evidence import Evidence, gather
from dashboards.selection import FeatureSelection


def view() -> None:
    """Draw the page."""
    with frame.page("Feature") as shown:
        selection = FeatureSelection.from_url(st.query_params.to_dict())
        if selection is None:
            link = el("a", "Browse the features", href=links.page("browse"))
            draw(notice("No feature is chosen.", link), key="no-feature")
            return
        found = gather(shown.catalogue, selection)
        shown.listen(found.previous, found.following)
        draw(
            feature_parts.header(
                found.row, found.explanations, found.scores, found.previous, found.following
            ),
            key="head",
        )
        st.space("small")
        left, right = st.columns([5, 3], gap="large")
        with left:
            examples(shown.catalogue, found)
        with right:
            draw(
                *feature_parts.evidence(found.row, found.labels, found.matches, found.stages), key="evidence"
            )
        explanations(shown.catalogue, found)
        draw_sql(found.queries)


def examples(catalogue: data.Catalogue, found: Evidence) -> None:
    """The heat-map; a click on a paragraph mark opens the whole document."""
    draw(heading("Examples", feature_parts.examples_note(found.row)), key="examples-title")
    if not found.examples:
        draw(notice(feature_parts.NEVER_FIRED), key="no-examples")
        return
    place = draw_heatmap(bands_of(found.examples), found.row["max_activation"] or 0.0, key="heatmap")
    if place:
        document = data.one(
            catalogue, "document", corpus_id=found.row["corpus_id"], document_id=place.document_id
        )
        document_dialog(document, place.start, place.end)


def explanations(catalogue: data.Catalogue, found: Evidence) -> None:
    """Every explanation through time; scores and judgements unfold."""
    st.space("small")
    draw(heading("Explanations", f"{len(found.explanations)} through time"), key="explanations-title")
    if not found.explanations:
        draw(notice("No explanation was written for this feature yet."), key="no-explanations")
    for row in found.explanations:
        named = row["explanation_id"]
        draw(explanation_parts.explanation(row, found.scores), key=f"explanation-{named}")
        own = [score for score in found.scores if score["explanation_id"] == named]
        if own:
            with st.expander("Scores and judged items", key=f"scores-{named}", on_change="rerun") as unfolded:
                if unfolded.open:
                    key = {
                        "dictionary_id": found.row["dictionary_id"],
                        "feature_index": found.row["feature_index"],
                    }
                    judged = data.rows(catalogue, "feature_judgements", explanation_id=named, **key)
                    tables = [explanation_parts.score_table(own)]
                    tables += [explanation_parts.judgement_table(judged)] if judged else []
                    draw(*tables, key=f"judged-{named}")


view()
