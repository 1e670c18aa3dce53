"""Data of a feature that only some methods have: groups, thresholds, heads, norms per hookpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import facts, section, term
from dashboards.components.charts import Bar, bars
from dashboards.components.markup import Element, Node, el
from dashboards.components.text_marks import label_words

Row = Mapping[str, Any]
Labels = Mapping[tuple[str, int], str]
HEADS_SHOWN = 8
_NUMBERS = (
    ("threshold", "threshold", definitions.THRESHOLD),
    ("selection step", "selection_step", definitions.SELECTION_STEP),
    ("relative norm", "relative_norm", definitions.RELATIVE_NORM),
    ("error ratio", "error_ratio", definitions.ERROR_RATIO),
    ("reconstruction ratio", "reconstruction_ratio", definitions.RECONSTRUCTION_RATIO),
)


def method(row: Row, labels: Labels) -> Element | None:
    """The facts that the feature's method has; empty if it has none."""
    pairs: list[tuple[Node, Node]] = []
    if row["feature_group"] is not None:
        pairs.append(_group(row))
    if row["parent_feature"] is not None:
        pairs.append((term("parent", definitions.PARENT), _parent(row, labels)))
    for name, column, help in _NUMBERS:
        if row[column] is not None:
            pairs.append((term(name, help), figures.significant(row[column])))
    if row["dfa_offset"] is not None:
        pairs.append((term("reads from", definitions.DFA_OFFSET), _distance(row["dfa_offset"])))
    if row["dfa_entropy"] is not None:
        entropy = f"{figures.significant(row['dfa_entropy'])} nats"
        pairs.append((term("source entropy", definitions.DFA_ENTROPY), entropy))
    if row["special_share"] is not None:
        share = figures.percent(row["special_share"])
        pairs.append((term("on special tokens", definitions.SPECIAL_SHARE), share))
    parts: list[Node] = [facts(pairs)] if pairs else []
    if len(row["site_norms"] or ()) > 1:
        parts.append(_norms(row["site_norms"], row["writes"]))
    if row["head_shares"]:
        parts.append(_heads(row["head_shares"]))
    return section("Method", *parts, note=str(row["architecture"]).replace("_", " ")) if parts else None


def hookpoints(points: Sequence[Row]) -> list[str]:
    """A hookpoint of a dictionary; with the model if there are several."""
    several = len({point["model_id"] for point in points}) > 1
    named = [(point["model_id"], point["hookpoint"]) for point in points]
    return [f"{model} {hookpoint}" if several else hookpoint for model, hookpoint in named]


def reads_and_writes(row: Row) -> list[tuple[str, Node]]:
    """The hookpoint that the dictionary reads, and the one that it writes if that differs."""
    reads, writes = hookpoints(row["reads"]), hookpoints(row["writes"])
    if reads == writes and len(reads) == 1:
        return [("hookpoint", reads[0])]
    if reads == writes:
        return [("hookpoints", ", ".join(reads))]
    return [("reads", ", ".join(reads)), ("writes", ", ".join(writes))]


def _group(row: Row) -> tuple[Node, Node]:
    """The hookpoint that it reads, if groups are the layers of a transcoder; else the group's number."""
    reads, group = hookpoints(row["reads"]), row["feature_group"]
    if row["architecture"] == "cross_layer_transcoder" and group < len(reads):
        return term("reads", definitions.LAYER), reads[group]
    return term("group", definitions.GROUP), str(group)


def _distance(offset: int) -> str:
    """A position in the sequence relative to the token on which the feature fires."""
    if offset == 0:
        return "the token itself"
    words = "1 token" if abs(offset) == 1 else f"{abs(offset)} tokens"
    return f"{words} {'before' if offset < 0 else 'after'}"


def _parent(row: Row, labels: Labels) -> Element:
    index = row["parent_feature"]
    label = labels.get((row["dictionary_id"], index))
    link = el("a", f"#{index}", href=links.feature(row["dictionary_id"], index), cls="inline")
    shown = el("span", " ", label_words(label), cls="quiet isolate") if label else None
    return el("span", link, shown)


def _norms(norms: Sequence[float], points: Sequence[Row]) -> Element:
    named = zip(hookpoints(points), norms, strict=True)
    drawn = [Bar(name, norm, figures.significant(norm)) for name, norm in named]
    title = el("span", term("decoder norm by hookpoint", definitions.SITE_NORMS), cls="quiet small")
    return el("div", title, bars(drawn), cls="stack")


def _heads(shares: Sequence[float]) -> Element:
    strongest = sorted(range(len(shares)), key=lambda head: -shares[head])[:HEADS_SHOWN]
    drawn = [Bar(f"head {head}", shares[head], figures.percent(shares[head])) for head in strongest]
    title = el("span", term("attention heads", definitions.HEAD_SHARES), cls="quiet small")
    return el("div", title, bars(drawn, full=1.0), cls="stack")
