"""The parts of the overview: last run, problems, a card per dictionary, changes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import figures, links
from dashboards.components import definitions
from dashboards.components.blocks import (
    Column,
    Figure,
    badge,
    heading,
    key_figures,
    notice,
    quiet,
    run_name,
    section,
    short_dictionary,
    table,
)
from dashboards.components.markup import Element, Node, el
from dashboards.components.run_parts import left_notice
from dashboards.components.text_marks import label_words

Row = Mapping[str, Any]
KINDS = {
    "new_dictionary": ("new dictionary", "new dictionaries"),
    "new_label": ("new label", "new labels"),
    "better_label": ("better label", "better labels"),
    "worse_label": ("worse label", "worse labels"),
    "lost_label": ("lost label", "lost labels"),
    "new_match": ("new match", "new matches"),
}
ALARMS_SHOWN = 6
LARGE_SHARE = 0.05  # share of the squared norms from which a few tokens deserve a notice
LINEAR = (("pca", "PCA"), ("linear", "linear"))
CHANGE_COLUMNS = (Column("change"), Column("where"), Column("before", wide=True), Column("after"))


def troubles(runs: Sequence[Row]) -> Iterator[Element]:
    """A notice for the newest run that ended without being cancelled, if it left stages or did not complete.

    A run in progress, or one that a person cancelled, hides nothing.
    """
    over = [run for run in runs if run["state"] not in ("running", "cancelled")]
    if over and over[0]["state"] in ("failed", "crashed"):
        run = over[0]
        why = run["error"] or "no reason was recorded"
        link = el("a", "See the run", href=links.page("runs", run=run["run_id"]))
        which = "The last run" if run is runs[0] else f"The run of {figures.moment(run['started_at'])}"
        yield notice(f"{which} {run['state']}: {why}", link, bad=True)
    elif over and (left := left_notice(over[0])) is not None:
        yield left


def alarms(rows: Sequence[Row]) -> Iterator[Element]:
    """A notice for the metrics of the last nights that left the range of the nights before."""
    if not rows:
        return
    shown = [
        el(
            "li",
            el("strong", f"{row['metric']} of {row['about']}"),
            f" is {figures.significant(row['value'])}, expected {figures.significant(row['expected'])} ± "
            f"{figures.significant(row['tolerance'])} after {row['n_before']} trainings. ",
            el("a", "See the run", href=links.page("runs", run=row["run_id"])),
        )
        for row in rows[:ALARMS_SHOWN]
    ]
    if rows[ALARMS_SHOWN:]:
        shown.append(el("li", f"and {len(rows) - ALARMS_SHOWN} more, in the table “alarms”"))
    count = "One metric is" if len(rows) == 1 else f"{len(rows)} metrics are"
    yield notice(f"{count} out of the range of the nights before:", el("ul", *shown), bad=True)


def massive(rows: Sequence[Row]) -> Iterator[Element]:
    """A notice for every activation set in which a few tokens hold a large share."""
    for row in rows:
        if (row["massive_share"] or 0.0) < LARGE_SHARE:
            continue
        first = row["massive_positions"][0]["position"] if row["massive_positions"] else None
        where = "" if first is None else f", most at position {first}"
        said = (
            f"{row['model_id']} {row['hookpoint']}: {figures.count(row['n_massive'])} of "
            f"{figures.count(row['n_valid_tokens'])} tokens{where} have norms up to "
            f"{figures.significant(row['max_norm'])} where the median is "
            f"{figures.significant(row['median_norm'])}. "
            f"They hold {figures.percent(row['massive_share'], 2)} of the squared norms"
        )
        kept = "; they dominate FVU and the order of dictionaries. “massive_tokens: drop” leaves them out."
        left_out = f", and are left out of everything{_limit(row)}."
        yield notice(said + (kept if row["massive_tokens"] == "keep" else left_out))


def _limit(row: Row) -> str:
    """The norm above which tokens are left out, and their share; empty for sets of earlier releases."""
    if row["sink_norm_multiple"] is None:
        return ""
    multiple, share = figures.significant(row["sink_norm_multiple"]), figures.percent(row["masked_share"], 2)
    return f": norms over {multiple} times the median, {share} of the tokens"


def last_run(runs: Sequence[Row]) -> Element:
    """One line on the newest run."""
    if not runs:
        return el("p", "No run has been recorded yet.", cls="quiet")
    run = runs[0]
    when = figures.moment(run["started_at"])
    if run["finished_at"]:
        took = figures.duration((run["finished_at"] - run["started_at"]).total_seconds())
        said = f" {run['state']}, {when}, {took}"
    else:
        said = f" {run['state']}, began {when}"
    return el(
        "p",
        "Last run ",
        el("a", run_name(run), href=links.page("runs", run=run["run_id"])),
        f"{said}, spent {figures.money(run['cost_usd'])}.",
        cls="quiet",
    )


def model_sections(models: Sequence[Row], dictionaries: Sequence[Row]) -> Element:
    """For each model a heading and the cards of its dictionaries."""
    known = {model["model_id"]: model for model in models}
    named = dict.fromkeys([*known, *(row["model_id"] for row in dictionaries)])
    sections = []
    for model_id in named:
        model = known.get(model_id)
        note = "" if model is None else _about(model)
        own = [row for row in dictionaries if row["model_id"] == model_id]
        note = "; ".join(filter(None, (note, _ranked_by(own))))
        body = dictionary_cards(own) if own else el("p", "No dictionary yet.", cls="quiet")
        sections.append(el("section", heading(model_id, note), body))
    return el("div", *sections, cls="models block")


def _about(model: Row) -> str:
    n_sets = model["n_activation_sets"]
    sets = "one activation set" if n_sets == 1 else f"the largest of {n_sets} activation sets"
    tokens = (
        f"{figures.compact(model['n_valid_tokens'])} tokens in {sets}" if n_sets else "no activations yet"
    )
    return (
        f"{model['architecture']}, {figures.compact(model['n_parameters'])} parameters, "
        f"{model['n_layers']} layers, {tokens}"
    )


def dictionary_cards(rows: Sequence[Row]) -> Element:
    """A card per dictionary; at each hookpoint the one with the least unexplained variance is first."""

    def rank(row: Row) -> tuple[bool, str, bool, float]:
        fvu = row["fvu_ranked"]
        return not row["is_current"], str(row["hookpoint"]), fvu is None, fvu or 0.0

    ranked = sorted(rows, key=rank)
    return el("div", *(_card(row) for row in ranked), cls="cards")


def _ranked_by(rows: Sequence[Row]) -> str:
    """The FVU that orders the cards, as text; empty if nothing is ranked."""
    by = {row["fvu_ranked_by"] for row in rows if row["fvu_ranked"] is not None}
    if not by or len(rows) < 2:
        return ""
    words = {"all tokens": "of all tokens", "without massive tokens": "without massive tokens"}
    which = words[by.pop()] if len(by) == 1 else "without massive tokens where there are any"
    return f"at each hookpoint ranked by FVU {which}"


def _share(part: int | None, whole: int) -> float | None:
    return part / whole if whole and part is not None else None


def _above_chance(row: Row, n_firing: int) -> Figure:
    """The share of labels above chance, and that of random directions."""
    share = figures.percent(_share(row["n_above_chance"], n_firing), 2)
    if row["random_above_share"] is None:
        advice = "" if row["origin"] == "baseline" else f" {definitions.NO_RANDOM}"
        return Figure("above chance", share, definitions.ABOVE_CHANCE + advice)
    help = f"{definitions.ABOVE_CHANCE} {definitions.BESIDE_RANDOM}"
    if row["frozen_above_share"] is not None:
        help += f" {definitions.FROZEN_SHARE.format(figures.percent(row['frozen_above_share'], 2))}"
    return Figure("above chance (random)", f"{share} ({figures.percent(row['random_above_share'], 2)})", help)


def _floors(n: int) -> str:
    return "its floor" if n == 1 else f"all {n} floors"


def _above_floors(row: Row, n_firing: int) -> list[Figure]:
    """The share of labels above all floors, if floors were measured."""
    if row["n_above_floors"] is None:
        return []
    share = figures.percent(_share(row["n_above_floors"], n_firing), 2)
    return [Figure(f"above {_floors(row['n_floors'])}", share, definitions.ABOVE_FLOORS)]


def _card(row: Row) -> Element:
    n_firing = row["n_alive"] + row["n_dense"]
    name = row["alias"].removeprefix(f"{row['model_id']}/")
    controls = json.loads(row["fvu_control"]) if row["fvu_control"] else {}
    beside, value = next(
        (
            (f" ({words})", f" ({figures.decimal(controls[name])})")
            for name, words in LINEAR
            if name in controls
        ),
        ("", ""),
    )
    items = [
        Figure("features", figures.count(row["d_sae"])),
        Figure(f"FVU{beside}", figures.decimal(row["fvu"]) + value, definitions.FVU),
        Figure(
            "CE recovered", figures.decimal(row["ce_recovered"]), row["ce_note"] or definitions.CE_RECOVERED
        ),
        Figure("L0", figures.significant(row["l0"]), definitions.L0),
        Figure("unseen", figures.percent(_share(row["n_unseen"], row["n_features"]), 2), definitions.UNSEEN),
        Figure("labelled", figures.percent(_share(row["n_labelled"], n_firing), 2), definitions.LABELLED),
        _above_chance(row, n_firing),
        *_above_floors(row, n_firing),
        Figure("matched", figures.percent(_share(row["n_matched"], n_firing), 2), definitions.MATCHED),
    ]
    if row["fvu_without_massive"] is not None:
        without = figures.decimal(row["fvu_without_massive"])
        items.insert(2, Figure("FVU without massive", without, definitions.WITHOUT_MASSIVE))
    marks: list[Node] = [badge(str(row["architecture"]).replace("_", " "))]
    if row["origin"] != "trained":
        marks.append(badge(row["origin"]))
    if not row["verified"]:
        marks.append(badge("unverified", bad=True))
    return el(
        "div",
        el("h3", el("a", name, href=links.page("browse", dictionary=row["alias"]))),
        key_figures(items),
        el("div", *marks, el("span", figures.moment(row["created_at"]), cls="quiet small"), cls="row"),
        cls="card",
    )


def n_changes(changes: Sequence[Row]) -> int:
    """The number of changes, shown or not."""
    return sum({row["kind"]: row["n_of_kind"] for row in changes}.values())


def change_section(changes: Sequence[Row], runs: Sequence[Row]) -> Element:
    """The changes of the newest finished run: counts, and the first changes of each kind."""
    over = next((run for run in runs if run["state"] != "running"), None)
    if over is None:
        return section("What changed", quiet("No run has finished yet."))
    note = f"in the run of {figures.moment(over['started_at'])}"
    if not changes:
        return section("What changed", quiet("Nothing changed since the run before."), note=note)
    totals = {row["kind"]: row["n_of_kind"] for row in changes}
    counts = [Figure(KINDS[kind][n != 1], figures.count(n)) for kind, n in totals.items()]
    return section("What changed", key_figures(counts, compact=True), change_table(changes), note=note)


def change_table(changes: Sequence[Row]) -> Element:
    """Changes, one a row."""
    rows = [
        (
            KINDS[row["kind"]][0],
            _reference(row["dictionary_id"], row["feature_index"]),
            el("span", label_words(row["before"] or figures.MISSING), cls="isolate"),
            _after(row),
        )
        for row in changes
    ]
    return table(CHANGE_COLUMNS, rows, name="Changes of the last run", fold=True)


def _after(row: Row) -> Element:
    if row["kind"] == "new_match":
        dictionary, _, index = row["after"].rpartition("#")
        return _reference(dictionary, int(index))
    return el("span", label_words(row["after"] or figures.MISSING), cls="isolate")


def _reference(dictionary: str, index: int | None) -> Element:
    if index is None:
        href, shown = links.page("browse", dictionary=dictionary), short_dictionary(dictionary)
        return el("a", shown, href=href, title=dictionary)
    mark = el("span", f" #{index}", cls="mono")
    href = links.feature(dictionary, index)
    return el("a", short_dictionary(dictionary), mark, href=href, title=f"{dictionary}#{index}")
