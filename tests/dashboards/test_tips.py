"""What a mouse sees on pointing at it opens by keyboard and touch, in a real browser."""

import re
from collections.abc import Callable
from types import ModuleType

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from dashboards import links

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

Visit = Callable[..., Page]


@pytest.mark.parametrize("width", [1280, 390])
def test_token_tips_open_by_keyboard_and_touch(visit: Visit, synthetic: ModuleType, width: int) -> None:
    page = visit(links.feature(synthetic.dictionary_of("pico-a"), 5), width, has_touch=True)
    line = page.locator(".tokens").first
    tip = page.get_by_role("tooltip")
    assert line.locator("[tabindex='0']").count() == 1, "one stop of the Tab key a line"
    line.locator(".peak").focus()
    page.keyboard.press("Shift+Tab")
    expect(tip).to_be_hidden()
    page.keyboard.press("Tab")
    expect(tip).to_contain_text("id 120")
    page.keyboard.press("ArrowLeft")
    expect(line.locator(".token:focus")).not_to_have_class(re.compile("peak"))
    expect(tip).not_to_contain_text("id 120")
    page.keyboard.press("ArrowRight")
    expect(tip).to_contain_text("id 120")
    page.keyboard.press("Tab")
    expect(tip).to_contain_text("whole document: doc-18")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    line.locator(".token.peak").tap()
    expect(tip).to_contain_text("activation")
    found = Axe().run(page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:300] for node in one["nodes"]]) for one in grave] == []


def test_the_title_of_a_link_opens_by_keyboard(visit: Visit) -> None:
    page = visit("")
    link = page.locator("a[title]").first
    link.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    definition = page.locator(".definition")
    expect(definition).to_have_text(link.get_attribute("title") or "")
    page.keyboard.press("Escape")
    expect(definition).to_have_count(0)
