"""The parts of the feature page, drawn from plain rows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import (
    Figure,
    badge,
    chips,
    facts,
    key_figures,
    label_line,
    section,
    share_chips,
    short_dictionary,
    term,
    verdict_words,
)
from dashboards.components.charts import Bar, Bin, bars, histogram
from dashboards.components.markup import Element, Node, el
from dashboards.components.method_parts import method, reads_and_writes
from dashboards.components.near_parts import neighbours
from dashboards.components.scores import Score, label_verdict, score_block
from dashboards.components.text_marks import label_words, token_label

Row = Mapping[str, Any]
Labels = Mapping[tuple[str, int], str]
QUANTILES_SHOWN = 6
NEVER_FIRED = "This feature never fired on this activation set, so there are no examples."


def score_of(row: Row | None) -> Score:
    """The score in a row of ``feature_cards`` or ``scores``."""
    if row is None:
        return Score(None, None, None, None, None)
    value = row["score"] if "score" in row else row["value"]
    n = row["n_judged"] if "n_judged" in row else row["n"]
    return Score(
        value,
        row["ci_low"],
        row["ci_high"],
        row["chance"],
        n,
        row["above_chance"],
        row.get("metric") or "balanced_accuracy",
    )


def headline(scores: Sequence[Row], explanation_id: str | None) -> Row | None:
    """The score that ranks an explanation, as the view ``explanation_scores`` selects it."""
    own = (s for s in scores if s["is_headline"] and s["explanation_id"] == explanation_id)
    return next(own, None)


def label_row(explanations: Sequence[Row]) -> Row | None:
    """The explanation on the feature's card, as the view ``feature_cards`` selects it."""
    return next((row for row in explanations if row["is_label"]), None)


def firing_figures(row: Row) -> list[Figure]:
    """How often and how strongly a feature fires."""
    return [
        Figure("density", figures.percent(row["density"]), definitions.DENSITY),
        Figure("fired on", figures.count(row["n_tokens"]), "Valid tokens on which it fired."),
        Figure("largest", figures.significant(row["max_activation"]), definitions.MAX_ACTIVATION),
    ]


def status_badge(status: str) -> Element:
    """Whether it is alive, unseen or dense."""
    return badge(status, strong=status == "alive", bad=status == "dense")


def header(
    row: Row, explanations: Sequence[Row], scores: Sequence[Row], previous: str | None, following: str | None
) -> Element:
    """Name, links to the adjacent features, label, score, density and status."""
    label = label_row(explanations)
    score = headline(scores, label["explanation_id"] if label else None)
    named = f"{row['dictionary_id']}#{row['feature_index']}"
    copy = el("button", "copy", cls="copy", title=named)
    steps = el("span", _step("← previous", previous), _step("next →", following), cls="row small")
    return el(
        "div",
        el("div", el("span", el("code", named), " ", copy), steps, cls="spread"),
        label_line(label["text"] if label else None),
        share_chips(label["token_shares"]) if label else None,
        label_verdict(row),
        el(
            "div",
            score_block(score_of(score)),
            key_figures(firing_figures(row), compact=True),
            status_badge(row["status"]),
            cls="row",
        ),
        cls="stack",
    )


def title(row: Row, explanations: Sequence[Row]) -> str:
    """The title of the browser tab: number, label, dictionary."""
    label = label_row(explanations)
    parts = [
        f"#{row['feature_index']}",
        label["text"] if label else None,
        short_dictionary(row["dictionary_id"]),
    ]
    return " · ".join(part for part in parts if part)


def _step(words: str, href: str | None) -> Element:
    return el("a", words, href=href) if href else el("span", words, cls="quiet")


def examples_note(row: Row) -> str:
    """The amount of text from which the examples were selected."""
    return (
        f"from {figures.compact(row['n_valid_tokens'])} tokens of {row['corpus_id'] or 'an unknown corpus'}"
    )


def evidence(
    row: Row,
    labels: Labels,
    found: Sequence[Row],
    stages: Sequence[Row],
    near: Sequence[Row] = (),
    further: Sequence[Element] = (),
) -> list[Element]:
    """The right column: distribution, ``further`` sections, logits, neighbours, matches and provenance."""
    parts = [
        distribution(row),
        *further,
        logits(row),
        method(row, labels),
        neighbours(row, labels, near),
        matches(row, found, labels),
        provenance(row, stages),
    ]
    return [part for part in parts if part is not None]


def distribution(row: Row) -> Element:
    """Histogram and quantiles of the activations."""
    bins = [Bin(b["low"], b["high"], b["n"]) for b in row["histogram"]]
    quantiles = [Figure(f"{100 * q['q']:.0f} %", figures.significant(q["value"])) for q in row["quantiles"]]
    return section(
        "Activations",
        histogram(bins, name="Histogram of activations", unit="tokens"),
        key_figures(quantiles[:QUANTILES_SHOWN], compact=True) if quantiles else None,
        note="where it fires, logarithmic",
    )


def logits(row: Row) -> Element | None:
    """Tokens that it promotes and suppresses most; empty if there is no unembedding."""
    if not row["top_logits"] and not row["bottom_logits"]:
        return None

    def side(items: Sequence[Row]) -> Element:
        return bars(
            [
                Bar(
                    el("span", token_label(i["token"]), cls="mono isolate"),
                    i["logit"],
                    figures.signed(i["logit"]),
                    f"token id {i['token_id']}",
                )
                for i in items[:8]
            ]
        )

    raised = el(
        "div",
        el("span", term("raises", definitions.LOGITS), cls="quiet small"),
        side(row["top_logits"]),
        cls="stack",
    )
    lowered = el(
        "div",
        el("span", term("lowers", definitions.LOGITS), cls="quiet small"),
        side(row["bottom_logits"]),
        cls="stack",
    )
    return section("Logits", el("div", raised, lowered, cls="pair"), *_all_logits(row))


def _all_logits(row: Row) -> Iterator[Element]:
    """The distribution of its effects on all tokens beside random directions; empty in older catalogues."""
    if not row["logit_histogram"]:
        return
    bins = [Bin(b["low"], b["high"], b["n"]) for b in row["logit_histogram"]]
    yield histogram(bins, name="Histogram of effects on the logits", unit="tokens", along="logit")
    yield key_figures(
        [
            _against_random(
                "skewness", row["logit_skewness"], row["logit_skewness_null"], definitions.LOGIT_SKEWNESS
            ),
            _against_random(
                "kurtosis", row["logit_kurtosis"], row["logit_kurtosis_null"], definitions.LOGIT_KURTOSIS
            ),
        ],
        compact=True,
    )


def _against_random(name: str, value: float, null: float, help: str) -> Figure:
    return Figure(f"{name} (random {figures.decimal(null)})", figures.decimal(value), help)


def matches(row: Row, found: Sequence[Row], labels: Labels) -> Element:
    """Matching features of other dictionaries with the evidence for each."""
    here = f"{row['dictionary_id']}#{row['feature_index']}"
    parts: list[Node] = []
    for match in found[:8]:
        there = f"{match['dictionary_id']}#{match['feature_index']}"
        label = labels.get((match["dictionary_id"], match["feature_index"]))
        words = [
            f"{match['method'].replace('_', ' ')} {figures.decimal(match['score'])}{figures.interval(match)}"
        ]
        if match["floor_score"] is not None:
            words.append(f"random direction {figures.decimal(match['floor_score'])}")
        q = f"q = {figures.significant(match['q_value'], 2)}" if match["q_value"] is not None else None
        further = ["mutual best" if match["mutual"] else "one-sided", verdict_words(match["verdict"])]
        parts.append(
            el(
                "div",
                el(
                    "a", there, href=links.feature(match["dictionary_id"], match["feature_index"]), cls="mono"
                ),
                el("span", label_words(label), cls="isolate") if label else None,
                el(
                    "span",
                    ", ".join(words) + ", ",
                    term(q, definitions.Q_VALUE) if q else None,
                    (", " if q else "") + ", ".join(further) + "  ",
                    el("a", "compare", href=links.compare(here, there), cls="inline"),
                    cls="quiet small",
                ),
                cls="stack",
            )
        )
    body = (
        el("div", *parts, cls="stack")
        if parts
        else el("span", "No match in another dictionary.", cls="quiet small")
    )
    return section("Matches", body)


def provenance(row: Row, stages: Sequence[Row]) -> Element:
    """The provenance of the numbers on this page."""
    pairs: list[tuple[Node, Node]] = [
        ("model", row["model_id"]),
        *reads_and_writes(row),
        ("corpus", row["corpus_id"] or figures.MISSING),
        ("activation set", el("code", row["activation_set_id"])),
        ("valid tokens", figures.count(row["n_valid_tokens"])),
        (term("decoder norm", definitions.DECODER_NORM), figures.significant(row["decoder_norm"])),
        (
            term("encoder · decoder", definitions.ENCODER_COSINE),
            figures.significant(row["encoder_decoder_cosine"]),
        ),
        ("top tokens", chips(row["top_tokens"][:8])),
    ]
    for stage in stages:
        said = f"{figures.moment(stage['finished_at'])}, featlas {stage['code_version']}"
        run = (
            el("a", "run", href=links.page("runs", run=stage["run_id"]), cls="inline")
            if stage["run_id"]
            else None
        )
        name = stage["stage"].replace("_", " ")
        pairs.append((term(name, _config(stage["config"])), el("span", said, " ", run)))
    pairs.append(("fingerprint", el("code", row["fingerprint"][:16])))
    return section("Provenance", facts(pairs))


def _config(text: str) -> str:
    return json.dumps(json.loads(text), indent=1)[:1500]
