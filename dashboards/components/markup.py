"""Drawing without HTML: a tree of elements in which every string becomes a text node.

Text of corpora, models and people reaches the browser only as a string child of this tree (or of the
heat-map), never as markup. The browser builds the tree with ``createElement`` and ``textContent`` from a
closed list of tags and attributes, so that a label such as ``<script>`` is shown and not run.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_TAGS = """
a abbr button code dd div dl dt em g h2 h3 li line mark ol p path rect section small span strong svg table
tbody td text th thead time title tr ul
"""
_ATTRIBUTES = """
aria-current aria-hidden aria-label aria-sort class colspan d data-name datetime height href
preserveAspectRatio role rowspan scope style tabindex text-anchor title viewBox width x x1 x2 y y1 y2
"""
TAGS = frozenset(_TAGS.split())
ATTRIBUTES = frozenset(_ATTRIBUTES.split())


@dataclass(frozen=True, slots=True)
class Element:
    """One element: a tag, its attributes and its children."""

    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple["Node", ...]


Node = Element | str


def el(tag: str, *children: Node | None, cls: str = "", **attributes: str | float | None) -> Element:
    """An element; ``cls`` is its class, underscores in names become hyphens, ``None`` is left out.

    Raises:
        ValueError: for a tag or attribute that the browser would not draw, and for a title that neither
            keyboard nor touch can open.
    """
    if tag not in TAGS:
        raise ValueError(f"element {tag!r} is not drawn; known: {', '.join(sorted(TAGS))}")
    named = {name.replace("_", "-"): str(value) for name, value in attributes.items() if value is not None}
    if "title" in named and tag not in ("a", "button"):
        raise ValueError(f"a title of {tag!r} opens only for a mouse: use blocks.term")
    unknown = named.keys() - ATTRIBUTES
    if unknown:
        raise ValueError(f"attribute {sorted(unknown)[0]!r} is not drawn")
    if cls:
        named["class"] = cls
    return Element(tag, tuple(named.items()), tuple(child for child in children if child is not None))


def text(value: object, cls: str = "") -> Element:
    """A span holding one text."""
    return el("span", str(value), cls=cls)


def plain(node: Node) -> list[object] | str:
    """The JSON form that the browser reads: a string, or ``[tag, attributes, children]``."""
    if isinstance(node, str):
        return node
    return [node.tag, dict(node.attributes), [plain(child) for child in node.children]]


def strings(node: Node) -> Iterator[str]:
    """Every text of the tree, in reading order."""
    if isinstance(node, str):
        yield node
        return
    for child in node.children:
        yield from strings(child)
