"""Feature: what is this one, and should I believe it?"""

import streamlit as st

from catalog import queries
from dashboards import data, frame, links
from dashboards.components import feature_parts, observation_parts, set_parts
from dashboards.components.blocks import heading, notice
from dashboards.components.canvas import draw
from dashboards.components.document import document_dialog
from dashboards.components.examples import bands_of
from dashboards.components.explanations import draw_explanations
from dashboards.components.heatmap import draw_heatmap
from dashboards.components.markup import el
from dashboards.components.sql_text import draw_sql
from dashboards.evidence import Evidence, gather, random_feature
from dashboards.selection import FeatureSelection


def view() -> None:
    """Draw the page."""
    with frame.page("Feature") as shown:
        if st.query_params.get("feature") == links.RANDOM:
            st.query_params.from_dict(random_feature(shown.catalogue, st.query_params.get("dictionary")))
        selection = FeatureSelection.from_url(st.query_params.to_dict())
        if selection is None:
            link = el("a", "Browse the features", href=links.page("browse"))
            draw(notice("No feature is selected.", link), key="no-feature")
            return
        found = gather(shown.catalogue, selection)
        shown.listen(found.previous, found.following)
        frame.draw_alias(shown.catalogue, selection.dictionary)
        shown.named(feature_parts.title(found.row, found.explanations))
        left, right = st.columns([5, 3], gap="large")
        with left:
            about(shown.catalogue, found)
            sets = set_parts.switch(
                selection.dictionary, selection.feature_index, found.row["activation_set_id"], found.sets
            )
            if sets:
                draw(*sets, key="sets")
            examples(shown.catalogue, found, selection.example)
        with right:
            further = observation_parts.further(found)
            rows = (found.row, found.labels, found.matches, found.stages, found.near)
            draw(*feature_parts.evidence(*rows, further), key="evidence")
        draw_sql(found.queries)


def about(catalogue: data.Catalogue, found: Evidence) -> None:
    """Name and label, then every explanation with its scores."""
    draw(
        feature_parts.header(found.row, found.explanations, found.scores, found.previous, found.following),
        key="head",
    )

    def judgements_of(explanation_id: str) -> list[data.Row]:
        feature = {name: found.row[name] for name in ("dictionary_id", "feature_index")}
        return data.rows(catalogue, queries.feature_judgements(explanation_id=explanation_id, **feature))

    st.space("small")
    draw_explanations(found.explanations, found.scores, found.examples, found.row["n_bands"], judgements_of)


def examples(catalogue: data.Catalogue, found: Evidence, target: str | None) -> None:
    """The heat-map, open at ``target``; a click on a paragraph mark opens the full document."""
    draw(heading("Examples", feature_parts.examples_note(found.row)), key="examples-title")
    if not found.examples:
        draw(notice(feature_parts.NEVER_FIRED), key="no-examples")
        return
    largest = found.row["max_activation"] or 0.0
    place = draw_heatmap(
        bands_of(found.examples, found.row["n_bands"]), largest, key="heatmap", target=target
    )
    if place:
        asked = queries.document(corpus_id=found.row["corpus_id"], document_id=place.document_id)
        document_dialog(data.one(catalogue, asked), place.start, place.end)


view()
