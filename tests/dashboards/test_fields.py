"""Every field of every page, changed three times in a real browser, keeps its third value.

The fields are found on the page, so that a new one is covered; one that no function here can change fails.
"""

import re
from collections.abc import Callable
from functools import partial
from operator import ne
from types import ModuleType

import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect

from dashboards import links

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

WAIT = 45_000
Visit = Callable[..., Page]
Drawn = Callable[[Page], None]
Lead = Callable[..., None]
TYPED = ("return", "one", "the")

# What can be pressed and is no field: it does one thing and holds nothing.
ACTIONS = ("stFormSubmitButton", "stDownloadButton", "stTooltipIcon", "stElementToolbar", "stButton")
LOOSE = """
known => [...document.querySelectorAll(
  "[data-testid=stMain] :is(input, textarea, select, [role=slider], [role=radio], [role=combobox], button)")]
  .filter(e => !known.some(name => e.closest(`[data-testid^=${name}]`)))
  .map(e => e.outerHTML.slice(0, 200))
"""


def type_text(field: Locator, turn: int) -> None:
    field.locator("input").fill(TYPED[turn])
    field.locator("input").press("Enter")


def choose(field: Locator, turn: int) -> None:
    field.get_by_role("combobox").click()
    options = field.page.get_by_role("option")
    if not options.first.is_visible():
        field.get_by_role("combobox").press("ArrowDown")
    options.first.wait_for(timeout=WAIT)
    others = [o for o in options.all() if o.get_attribute("aria-selected") != "true"]
    wanted = others[-1 - turn % len(others)].inner_text()
    # On a busy machine the list is drawn again between press and release, and the browser sees no click.
    for _ in range(3):
        options.filter(has_text=re.compile(f"^{re.escape(wanted)}$")).click()
        try:
            return options.first.wait_for(state="hidden", timeout=WAIT / 9)
        except TimeoutError:
            continue
    raise AssertionError(f"the list stays open after three clicks on {wanted!r}")


def press(field: Locator, turn: int) -> None:
    others = [o for o in field.get_by_role("radio").all() if o.get_attribute("aria-checked") != "true"]
    others[turn % len(others)].click()


def slide(field: Locator, turn: int) -> None:
    field.get_by_role("slider").first.focus()
    field.page.keyboard.press("ArrowLeft" if turn == 1 else "ArrowRight")


def turn_page(field: Locator, turn: int) -> None:
    field.get_by_role("button", name=f"Page {(3, 1, 2)[turn]}", exact=True).click()


def write_and_run(field: Locator, turn: int) -> None:
    field.locator("textarea").fill(f"SELECT {turn + 40} AS answer")
    field.page.get_by_role("button", name="Run").click()


FIELDS: dict[str, Callable[[Locator, int], None]] = {
    "stTextInput": type_text,
    "stSelectbox": choose,
    "stButtonGroup": press,
    "stSlider": slide,
    "stPagination": turn_page,
    "stTextArea": write_and_run,
}
VALUE = """
field => {
  const marked = field.querySelectorAll("[aria-checked=true], [data-testid=stPaginationPageActive]")
  const typed = field.querySelectorAll("input, textarea")
  return [...marked].map(e => e.innerText).concat([...typed].map(e => e.value)).join(" | ")
}
"""


def fields_of(page: Page) -> list[Locator]:
    """The fields of a page, those in folded parts too."""
    folded = page.locator("[data-testid=stExpander] details:not([open]) > summary")
    folded = folded.filter(has_not_text="Show the SQL")
    while folded.count():
        folded.first.click()
    named = ", ".join(f"[data-testid={name}]:visible" for name in FIELDS)
    return page.locator("[data-testid=stMain]").locator(named).all()


def follow(page: Page, drawn: Drawn, address: str) -> None:
    """Open an address as a link inside the dashboard does."""
    page.evaluate(
        "address => { history.pushState(null, '', address); dispatchEvent(new PopStateEvent('popstate')) }",
        address,
    )
    page.wait_for_timeout(300)
    drawn(page)


def change(field: Locator, turn: int) -> None:
    FIELDS[str(field.get_attribute("data-testid"))](field, turn)


@pytest.fixture
def states(synthetic: ModuleType, addresses: dict[str, str]) -> dict[str, str]:
    """Every page as a link leads to it, and those with fields as they are without an address."""
    return {**addresses, "browse": "browse", "compare": "compare", "a query": links.page("sql", q="SELECT 1")}


NAMES = (
    "overview",
    "browse",
    "feature",
    "compare",
    "compare dictionaries",
    "compare features",
    "changes",
    "runs",
    "sql",
    "a query",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_field_changed_three_times_keeps_its_third_value(
    visit: Visit, drawn: Drawn, lead: Lead, states: dict[str, str], name: str
) -> None:
    page = visit(states[name])
    n_fields = len(fields_of(page))
    assert page.evaluate(LOOSE, [*FIELDS, *ACTIONS]) == []
    assert n_fields or name in ("overview", "feature", "changes", "runs")
    for position in range(n_fields):
        field = fields_of(page)[position]
        label = f"{name}: {field.inner_text()[:40]!r}"
        seen, address = [field.evaluate(VALUE)], page.url
        for turn in range(3):
            before = page.url
            lead(page, partial(change, field, turn), partial(ne, before))
            drawn(page)
            seen.append(field.evaluate(VALUE))
            assert seen[-1] != seen[-2], f"{label}: change {turn + 1} is lost, {seen}"
        changed = page.url
        follow(page, drawn, address)
        assert field.evaluate(VALUE) == seen[0], f"{label}: a link does not reset it"
        follow(page, drawn, changed)
        assert field.evaluate(VALUE) == seen[-1], f"{label}: the address does not hold it"
        follow(page, drawn, address)


def test_fields_changed_in_a_hurry_all_keep_their_values(visit: Visit, drawn: Drawn) -> None:
    page = visit("browse?matched=any&status=alive")
    page.get_by_label(links.SEARCH_LABEL).fill("return")
    page.get_by_role("radio", name="dense").click()
    page.get_by_role("radio", name="any").first.click()
    page.get_by_role("radio", name="yes").click()
    page.wait_for_url(lambda url: "q=return" in url and "matched=yes" in url, timeout=WAIT)
    drawn(page)
    assert "status" not in page.url
    expect(page.get_by_label(links.SEARCH_LABEL)).to_have_value("return")


def test_the_back_button_undoes_a_change(visit: Visit, drawn: Drawn) -> None:
    page = visit("browse")
    for words in ("return", "slice"):
        page.get_by_label(links.SEARCH_LABEL).fill(words)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/browse?q={words}", timeout=WAIT)
        drawn(page)
    page.go_back()
    expect(page.get_by_label(links.SEARCH_LABEL)).to_have_value("return", timeout=WAIT)
    expect(page.locator("mark").first).to_have_text("return", timeout=WAIT)
