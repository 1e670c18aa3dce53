"""Explanations of a feature over time, each with its author, cost, scores and judgements."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components.blocks import Column, badge, share_chips, table
from dashboards.components.examples import band_words, name_of
from dashboards.components.feature_parts import headline, score_of
from dashboards.components.markup import Element, Node, el
from dashboards.components.scores import score_block
from dashboards.components.text_marks import special_name, visible

Row = Mapping[str, Any]
AROUND = 12
STALE = "a document of its evidence was forgotten; the next run of the pipeline explains the feature again"

SCORE_COLUMNS = (
    Column("scorer"),
    Column("judge", "LLM that judged; none if a rule was evaluated."),
    Column("measure"),
    Column("against", "Kind of silent examples: random text, or text on which similar features fire."),
    Column("value", "With its 95 % interval.", number=True),
    Column("chance", "The same score of shuffled explanations on the same items.", number=True),
    Column("n", "Judged items.", number=True),
    Column("answered", "Share of items with a valid answer.", number=True),
)
JUDGEMENT_COLUMNS = (
    Column("item", number=True),
    Column("scorer"),
    Column("judge"),
    Column("example", "Band and rank of the context, and the text around its peak; links to it."),
    Column("fires"),
    Column("said", "Answer of the judge or rule; the cosine or loss of a scorer that measures."),
    Column("probability", number=True),
)


def explanation(row: Row, scores: Sequence[Row]) -> Element:
    """One explanation: text, author, time, cost and its headline score as text."""
    author = row["explainer"] + (f", {row['model']}" if row["model"] else "")
    details: list[Node] = [el("span", author), el("span", figures.moment(row["created_at"]))]
    if row["cost_usd"] is not None:
        tokens = figures.count((row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0))
        details.append(el("span", f"{figures.money(row['cost_usd'])}, {tokens} tokens"))
    if row["run_id"]:
        details.append(el("a", "run", href=links.page("runs", run=row["run_id"]), cls="inline"))
    if row["status"] == "ok":
        said = el("p", visible(row["text"] or ""), cls="isolate")
    else:
        reason = visible(row["error"] or "no reason recorded")
        said = el("p", badge(row["status"], bad=True), " ", el("span", reason, cls="quiet"))
    return el(
        "div",
        said,
        el("p", badge("to be explained again", bad=True), " ", el("span", STALE, cls="quiet"))
        if row["is_stale"]
        else None,
        None if row["is_label"] else share_chips(row["token_shares"]),
        el("div", *details, cls="row small quiet"),
        score_block(score_of(headline(scores, row["explanation_id"]))) if row["status"] == "ok" else None,
        cls="stack",
    )


def score_table(scores: Sequence[Row]) -> Element:
    """Every score of one explanation."""
    rows = []
    for s in scores:
        interval = figures.interval(s)
        rows.append(
            (
                s["scorer"],
                s["judge"],
                s["metric"].replace("_", " "),
                s["negatives"],
                figures.decimal(s["value"]) + interval,
                figures.decimal(s["chance"]),
                figures.count(s["n"]),
                figures.percent(s["answered_share"]),
            )
        )
    return table(SCORE_COLUMNS, rows, name="Scores of this explanation")


def judgement_table(judgements: Sequence[Row], examples: Sequence[Row], n_bands: int | None) -> Element:
    """Every judged item of one explanation with its text; wrong answers are highlighted."""
    known = {name_of(example): example for example in examples}
    rows = []
    for j in judgements:
        said = _answer(j)
        wrong = j["answer"] is not None and j["answer"] != j["truth"]
        rows.append(
            (
                str(j["item"]),
                j["scorer"],
                j["judge"],
                _item(j, known.get(name_of(j)), n_bands),
                _yes(j["truth"]),
                badge(said, bad=True) if wrong else el("span", said),
                figures.decimal(j["probability"]),
            )
        )
    return table(JUDGEMENT_COLUMNS, rows, name="Judged items of this explanation")


def _answer(judgement: Row) -> str:
    """Yes or no, or the number of a scorer that measures: a cosine, or nats per token."""
    if judgement["answer"] is not None:
        return _yes(judgement["answer"])
    return "no answer" if judgement["margin"] is None else figures.significant(judgement["margin"])


def _item(judgement: Row, example: Row | None, n_bands: int | None) -> Element:
    """Band and rank of a judged context with the text around its peak, as a link to the example."""
    named = f"{band_words(judgement['band'], n_bands)[0].lower()} {judgement['rank']}"
    if example is None:
        return el("span", named)
    href = links.feature(
        judgement["dictionary_id"],
        judgement["feature_index"],
        judgement["activation_set_id"],
        name_of(judgement),
    )
    peak, tokens = example["peak_position"], _texts(example)
    before = tokens[max(0, peak - AROUND) : peak]
    after = tokens[peak + 1 : peak + 1 + AROUND]
    shown = el(
        "span",
        visible("".join(before)),
        el("mark", visible(tokens[peak])) if judgement["truth"] else visible(tokens[peak]),
        visible("".join(after)),
        cls="isolate mono",
    )
    return el("a", el("span", named, cls="quiet small"), " ", shown, href=href, cls="plain")


def _texts(example: Row) -> list[str]:
    """The text of each token; for special tokens their name."""
    special = example.get("is_special") or [False] * len(example["tokens"])
    stored = zip(example["tokens"], example["token_ids"], special, strict=True)
    return [f"⟨{special_name(text, token)}⟩" if named else text for text, token, named in stored]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
