"""The parts of the SQL page: example queries, the list of columns, the line above a result."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from dashboards import figures
from dashboards.components.blocks import notice, term
from dashboards.components.markup import Element, Node, el


class Example(NamedTuple):
    """A query that explains a part of the schema."""

    title: str
    note: str
    sql: str


RELATION = "feature_cards"
EXAMPLES = (
    Example(
        "Best labels",
        "Start with the view feature_cards: one wide row per feature with its label and score.",
        """SELECT dictionary_id, feature_index, label, score, ci_low, chance, density
FROM feature_cards
WHERE above_chance AND status = 'alive'
ORDER BY ci_low DESC
LIMIT 20""",
    ),
    Example(
        "Search labels",
        "Labels are text: search them with ILIKE over all dictionaries.",
        """SELECT alias, feature_index, label, score
FROM feature_cards
WHERE label ILIKE '%return%'
ORDER BY ci_low DESC NULLS LAST
LIMIT 50""",
    ),
    Example(
        "Same in two models",
        "matches holds pairs of features; join feature_cards twice to see both labels.",
        """SELECT m.score, m.q_value, a.label AS first, b.label AS second
FROM matches AS m
JOIN feature_cards AS a ON a.dictionary_id = m.dictionary_a AND a.feature_index = m.feature_a
JOIN feature_cards AS b ON b.dictionary_id = m.dictionary_b AND b.feature_index = m.feature_b
WHERE m.mutual AND m.q_value <= 0.05
ORDER BY m.score DESC
LIMIT 50""",
    ),
    Example(
        "Quality of dictionaries",
        "dictionary_metrics is long: one row per value, with the version of its definition and controls.",
        """SELECT d.alias, m.metric, m.variant, m.value, m.n, m.control
FROM dictionary_metrics AS m
JOIN dictionaries AS d USING (dictionary_id)
WHERE m.split = 'eval' AND m.metric IN ('fvu', 'l0', 'ce_recovered')
ORDER BY d.alias, m.metric""",
    ),
    Example(
        "Time per stage",
        "stage_runs records what every stage computed, how long it took and what it wrote.",
        """SELECT stage, count(*) AS attempts, round(avg(seconds), 1) AS mean_seconds, sum(rows) AS rows
FROM stage_runs
WHERE state = 'committed'
GROUP BY stage
ORDER BY mean_seconds DESC""",
    ),
)


class AnswerLike(Protocol):
    """The data for the line above a result."""

    @property
    def files(self) -> "FilesLike | None": ...
    @property
    def error(self) -> str | None: ...


class FilesLike(Protocol):
    """Rows, time, and whether there are more rows."""

    @property
    def n_rows(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def truncated(self) -> bool: ...


def example_sql(title: str) -> str:
    """The query of an example."""
    return next(example.sql for example in EXAMPLES if example.title == title)


def example_note(example: Example) -> Element:
    """The explanation of an example."""
    return el("p", example.note, cls="quiet small")


def column_list(columns: Sequence[tuple[str, str, str]]) -> Element:
    """Names, types and meanings of columns."""
    children: list[Node] = []
    for name, kind, meaning in columns:
        children.append(el("li", term(el("code", name), meaning), " ", el("span", kind, cls="quiet small")))
    return el("ul", *children, cls="columns", tabindex=0, aria_label="Columns")


def answer_line(answer: AnswerLike) -> Element:
    """Rows and time, or the error."""
    if answer.files is None:
        return notice(answer.error or "no rows", bad=True)
    rows = "1 row" if answer.files.n_rows == 1 else f"{figures.count(answer.files.n_rows)} rows"
    said = f"{rows} in {figures.duration(answer.files.seconds)}"
    if answer.files.truncated:
        said += "; there are more: add LIMIT or a condition, or use “featlas sql” to get all of them"
    return el("p", said, cls="quiet small")
