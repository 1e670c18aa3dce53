"""Drawing without HTML: closed lists of tags and attributes, the same in Python and in the browser."""

import re
from pathlib import Path

import pytest

import dashboards.components.markup as markup
from dashboards.components.blocks import Column, highlighted, run_name, short_dictionary, table
from dashboards.components.markup import el, plain, strings

DRAWING = (Path(markup.__file__).with_name("drawing.js")).read_text(encoding="utf-8")


def test_text_stays_a_string() -> None:
    hostile = "<script>alert(1)</script>"
    assert plain(el("p", hostile, cls="quiet")) == ["p", {"class": "quiet"}, [hostile]]


def test_unknown_tags_and_attributes_are_refused() -> None:
    with pytest.raises(ValueError, match="element 'script' is not drawn"):
        el("script", "alert(1)")
    with pytest.raises(ValueError, match="attribute 'onclick' is not drawn"):
        el("p", "x", onclick="alert(1)")


@pytest.mark.parametrize("tag", sorted(markup.TAGS - {"a", "button"}))
def test_what_opens_for_a_pointer_alone_is_refused(tag: str) -> None:
    with pytest.raises(ValueError, match=r"blocks\.term"):
        el(tag, "0.82", title="its definition")


@pytest.mark.parametrize(("name", "known"), [("TAGS", markup.TAGS), ("ATTRIBUTES", markup.ATTRIBUTES)])
def test_the_browser_side_has_the_same_list(name: str, known: frozenset[str]) -> None:
    found = re.search(rf"const {name} = new Set\(\n(.*?)\.split", DRAWING, re.DOTALL)
    assert found is not None
    words = " ".join(re.findall(r'"([^"]*)"', found[1])).split()
    assert set(words) == known


def test_highlighting_keeps_every_character() -> None:
    node = highlighted("The word Return, returned (a+b)", ["return", "(a+"])
    assert "".join(strings(node)) == "The word Return, returned (a+b)"
    marked = [
        child.children[0] for child in node.children if not isinstance(child, str) and child.tag == "mark"
    ]
    assert marked == ["Return", "return", "(a+"]


def test_a_table_refuses_rows_of_another_width() -> None:
    with pytest.raises(ValueError, match="argument"):
        table([Column("one"), Column("two")], [["only one"]], name="x")


def test_short_names_keep_model_layer_and_name() -> None:
    assert (
        short_dictionary("pico-a/blocks.2.resid_post/topk-x8-k16-s0-c39206cd")
        == "pico-a 2.resid_post topk-x8-k16-s0"
    )
    assert short_dictionary("imported-0011aabb") == "imported-0011aabb"


@pytest.mark.parametrize(
    ("flow", "pipeline", "name"),
    [
        ("nightly", "demo", "demo"),
        ("import-dictionary", "demo", "import-dictionary of demo"),
        ("housekeeping", None, "housekeeping"),
    ],
)
def test_a_run_is_named_by_what_it_did(flow: str, pipeline: str | None, name: str) -> None:
    assert run_name({"flow": flow, "pipeline": pipeline}) == name
