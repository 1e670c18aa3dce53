"""Small charts as SVG and bars: a histogram, a line over time, horizontal bars."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dashboards import figures
from dashboards.components.blocks import term
from dashboards.components.markup import Element, Node, el

WIDTH, HEIGHT = 400, 120
BASE = 98
LEFT = 44  # space for the counts next to the bars
TALL = 76


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a histogram: its edges and its count."""

    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar; a negative value is drawn hollow."""

    label: Node
    value: float
    text: str
    help: str = ""


def histogram(
    bins: Sequence[Bin], *, name: str, unit: str, along: str = "activation", logarithmic: bool = True
) -> Element:
    """Bars of counts over ``along``, by default on a logarithmic scale, with labels and numbers on both axes.

    A tooltip shows the edges and the count of a bin.
    """
    filled = [b for b in bins if b.n > 0]
    if not filled:
        return el("span", "no values", cls="quiet small")
    height_of = (lambda n: math.log10(n + 1)) if logarithmic else float
    tallest = max(height_of(b.n) for b in filled)
    step = (WIDTH - LEFT) / len(bins)
    drawn = []
    for position, b in enumerate(bins):
        height = TALL * height_of(b.n) / tallest if b.n > 0 else 0
        label = f"{figures.significant(b.low)} to {figures.significant(b.high)}: {figures.count(b.n)} {unit}"
        drawn.append(
            el(
                "rect",
                el("title", label),
                cls="bin",
                x=f"{LEFT + position * step + 0.5:.2f}",
                y=f"{BASE - height:.2f}",
                width=f"{max(1.0, step - 1):.2f}",
                height=f"{height:.2f}",
            )
        )
    edges = (
        el("text", figures.significant(bins[0].low, 2), x=str(LEFT), y="116"),
        el("text", along, x=str((WIDTH + LEFT) // 2), y="116", text_anchor="middle"),
        el("text", figures.significant(bins[-1].high), x=str(WIDTH), y="116", text_anchor="end"),
        el("text", unit, x="0", y="10"),
    )
    scale = "logarithmic scale, " if logarithmic else ""
    alt = f"{name}: {scale}{figures.count(sum(b.n for b in bins))} {unit} in {len(bins)} bins"
    axis = el("line", x1=str(LEFT), x2=str(WIDTH), y1=str(BASE), y2=str(BASE))
    ticks = _ticks(max(b.n for b in filled), tallest, height_of, logarithmic)
    return el(
        "svg", *ticks, *drawn, axis, *edges, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=alt
    )


def _ticks(
    most: int, tallest: float, height_of: Callable[[int], float], logarithmic: bool
) -> Iterator[Element]:
    """Horizontal lines with their counts: powers of ten, at most four, or half and all of the maximum."""
    if logarithmic:
        powers = [10**power for power in range(len(str(most)))]
        marks = powers[:: -(-len(powers) // 4)]
    else:
        marks = sorted({most, max(1, most // 2)})
    for mark in marks:
        y = BASE - TALL * height_of(mark) / tallest
        yield el("line", x1=str(LEFT), x2=str(WIDTH), y1=f"{y:.1f}", y2=f"{y:.1f}")
        said = figures.count(mark) if mark < 10_000 else figures.compact(mark)
        yield el("text", said, x=str(LEFT - 6), y=f"{y + 4:.1f}", text_anchor="end")


def line(values: Sequence[float], *, name: str) -> Element:
    """A line through values at equal steps, first to last, with its first and last value as text."""
    low, high = min(values), max(values)
    step = WIDTH / max(1, len(values) - 1)
    shares = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    points = [f"{i * step:.1f},{86 - 76 * share:.1f}" for i, share in enumerate(shares)]
    ends = f"from {figures.significant(values[0])} to {figures.significant(values[-1])}"
    alt = f"{name}: {len(values)} values {ends}"
    return el(
        "svg",
        el("line", x1="0", x2=str(WIDTH), y1=str(BASE), y2=str(BASE)),
        el("path", d="M" + " L".join(points), cls="line"),
        el("text", figures.significant(values[0]), x="0", y="116"),
        el("text", figures.significant(values[-1]), x=str(WIDTH), y="116", text_anchor="end"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=alt,
    )


def bars(items: Sequence[Bar], *, full: float | None = None) -> Element:
    """Horizontal bars with full labels, numbers at the right; ``full``, else the largest, fills a bar."""
    largest = full or max((abs(item.value) for item in items), default=0.0) or 1.0
    cells: list[Node] = []
    for item in items:
        width = f"width:{100 * abs(item.value) / largest:.1f}%"
        cells.append(el("span", term(item.label, item.help), cls="label"))
        cells.append(el("span", cls="bar less" if item.value < 0 else "bar", style=width, aria_hidden="true"))
        cells.append(el("span", item.text, cls="number"))
    return el("div", *cells, cls="bars")
