"""The dashboard in a real browser: it fits, reads well in both themes, and runs no hostile text."""

import re
from collections.abc import Callable
from types import ModuleType
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Request, expect

from dashboards import links
from dashboards.components import heatmap

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

WAIT = 45_000
MAIN = "[data-testid=stMain]"
Visit = Callable[..., Page]
Drawn = Callable[[Page], None]
Lead = Callable[..., None]


PAGES = ("overview", "browse", "feature", "compare dictionaries", "compare features", "runs", "sql")


DARK_TOO = ("browse", "feature", "sql")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_axe_finds_nothing_serious(
    visit: Visit, addresses: dict[str, str], name: str
) -> None:
    page = visit(addresses[name])
    assert _overflow(page) <= 0, "at 1280 pixels"
    assert _serious(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    assert _overflow(page) <= 0, "at 390 pixels"


@pytest.mark.parametrize("name", [*DARK_TOO, "a filter", "an answer", "no hits"])
def test_axe_finds_nothing_serious_in_the_dark(visit: Visit, addresses: dict[str, str], name: str) -> None:
    chosen = {"a filter": "browse?status=alive&matched=yes&sort=index", "an answer": "sql?q=select+1"}
    chosen["no hits"] = "browse?q=retrun"
    assert _serious(visit({**addresses, **chosen}[name], 390, "dark")) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_what_is_known_of_a_dictionary_unfolds_and_fits(
    visit: Visit, synthetic: ModuleType, width: int, scheme: str
) -> None:
    named = synthetic.dictionary_of(synthetic.IMPORTED)
    page = visit(links.page("browse", dictionary=named), width, scheme)
    page.get_by_text("About this dictionary").click()
    certificate = page.get_by_role("heading", name="Import certificate")
    expect(certificate).to_be_visible(timeout=WAIT)
    assert _overflow(page) <= 0
    assert _serious(page) == []


def _overflow(page: Page) -> int:
    """Pixels by which the page or its main part is wider than its window."""
    parts = f"[document.documentElement, document.querySelector('{MAIN}')]"
    return int(page.evaluate(f"Math.max(...{parts}.map(e => e.scrollWidth - e.clientWidth))"))


def _serious(page: Page) -> list[tuple[str, str, str]]:
    """Serious and critical findings: rule, element, and why."""
    return [
        (v["id"], v["nodes"][0]["html"][:160], v["nodes"][0]["failureSummary"][:300])
        for v in Axe().run(page).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def test_hostile_text_is_shown_and_does_nothing(
    visit: Visit, addresses: dict[str, str], synthetic: ModuleType, server: str, drawn: Drawn
) -> None:
    a = synthetic.dictionary_of("pico-a")
    hostile = [
        addresses["overview"],
        "browse",
        links.page("runs", run=synthetic.RUN_BEFORE),
        addresses["compare features"],
    ]
    hostile += [links.feature(a, index) for index in (4, 13, 18)]
    page = visit("sql")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(_host(request)))
    for address in hostile:
        page.goto(f"{server}/{address}")
        drawn(page)
        assert page.evaluate("window.__pwned") is None
        assert page.locator("iframe, img[src*=evil], a[href^=javascript]").count() == 0
    assert set(asked) <= {urlsplit(server).netloc, ""}


def _host(request: Request) -> str:
    return urlsplit(request.url).netloc


def test_hidden_characters_are_visible(visit: Visit, synthetic: ModuleType) -> None:
    page = visit(links.page("browse", token="gnp.exe"))
    expect(page.get_by_text("⟨202E⟩gnp.exe").first).to_be_visible()
    assert "\u202e" not in page.locator(MAIN).inner_text()


def test_an_address_shows_the_same_feature_and_its_text(visit: Visit, synthetic: ModuleType) -> None:
    a = synthetic.dictionary_of("pico-a")
    page = visit(links.feature(a, 5))
    expect(page.get_by_text(f"{a}#5", exact=True).first).to_be_visible()
    line = page.locator(".tokens").first
    text = "".join(line.locator(".token").all_inner_texts())
    assert " ".join(text.split()) in " ".join(synthetic.document_text(18).split())
    assert line.locator(".token.peak").count() == 1


def test_keys_walk_through_features(visit: Visit, synthetic: ModuleType) -> None:
    a = synthetic.dictionary_of("pico-a")
    page = visit(links.feature(a, 6))
    page.keyboard.press("j")
    expect(page.get_by_text(f"{a}#8", exact=True).first).to_be_visible(timeout=WAIT)
    assert "feature=8" in page.url
    page.keyboard.press("k")
    expect(page.get_by_text(f"{a}#6", exact=True).first).to_be_visible(timeout=WAIT)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.wait_for_url("**/browse", timeout=WAIT)


def test_back_returns_to_the_page_before(visit: Visit, drawn: Drawn, lead: Lead) -> None:
    page = visit("browse?q=bracket")
    lead(page, page.get_by_role("link", name=re.compile("closing bracket")).first.click, "**/feature?**")
    drawn(page)
    page.go_back()
    page.wait_for_url("**/browse?q=bracket", timeout=WAIT)
    expect(page.locator("mark").first).to_have_text("bracket", timeout=WAIT)


def test_the_search_narrows_and_goes_to_the_address(visit: Visit) -> None:
    page = visit("browse")
    field = page.get_by_label(links.SEARCH_LABEL)
    field.fill("slice")
    field.press("Enter")
    page.wait_for_url("**/browse?q=slice", timeout=WAIT)
    expect(page.locator("mark").first).to_have_text("slice", timeout=WAIT)


def test_context_and_hover_of_the_heat_map(visit: Visit, synthetic: ModuleType) -> None:
    page = visit(links.feature(synthetic.dictionary_of("pico-a"), 5))
    line = page.locator(".tokens").first
    before = line.locator(".token:visible").count()
    page.get_by_role("slider", name="Context").fill("3")
    assert line.locator(".token:visible").count() == 7 < before
    line.locator(".token.peak").hover()
    tip = page.get_by_role("tooltip")
    expect(tip).to_be_visible()
    expect(tip).to_contain_text("id 120")
    expect(tip).to_contain_text("activation")


def test_the_whole_document_opens_with_the_example_marked(visit: Visit, synthetic: ModuleType) -> None:
    page = visit(links.feature(synthetic.dictionary_of("pico-a"), 5))
    page.get_by_role("button", name="Show the whole document doc-18").first.click()
    dialog = page.get_by_role("dialog", name="Document")
    expect(dialog.locator("mark")).to_be_visible(timeout=WAIT)
    expect(dialog).to_contain_text("doc-18")


def test_colours_keep_text_readable(visit: Visit, synthetic: ModuleType) -> None:
    """Contrast of text over the strongest colour of the heat-map is at least 4.5 in both themes."""
    for scheme in ("light", "dark"):
        page = visit(links.feature(synthetic.dictionary_of("pico-a"), 5), scheme=scheme)
        ratio = page.locator(".token.peak").first.evaluate(CONTRAST)
        assert ratio >= 4.5, scheme


CONTRAST = """
element => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })
  const pixel = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1) }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
  }
  const luminance = (rgb) => {
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    const [r, g, b] = rgb.map((v) => linear(v / 255))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const page = getComputedStyle(document.querySelector("[data-testid=stApp]")).backgroundColor
  const style = getComputedStyle(element)
  const back = luminance(pixel(page, style.backgroundColor))
  const text = luminance(pixel(style.color))
  return (Math.max(back, text) + 0.05) / (Math.min(back, text) + 0.05)
}
"""


def test_the_page_breaks_no_rule_of_its_own_policy(
    visit: Visit, addresses: dict[str, str], server: str, drawn: Drawn
) -> None:
    page = visit("")
    said: list[str] = []
    page.on("console", lambda message: said.append(_error(message)))
    page.on("pageerror", lambda error: said.append(str(error)))
    for address in addresses.values():
        page.goto(f"{server}/{address}")
        drawn(page)
    assert [text for text in said if "Content Security Policy" in text or "not drawn" in text] == []


def _error(message: ConsoleMessage) -> str:
    return message.text if message.type == "error" else ""


@pytest.mark.parametrize("width", [1280, 390])
def test_explanations_start_on_the_first_screen_and_judged_items_lead_to_their_text(
    visit: Visit, lead: Lead, synthetic: ModuleType, width: int
) -> None:
    page = visit(links.feature(synthetic.dictionary_of("pico-a"), 5), width)
    box = page.get_by_role("heading", name="Explanations").bounding_box()
    assert box is not None
    assert box["y"] < 900
    bands = page.locator("details.band")
    assert [band.get_attribute("open") for band in bands.all()] == ["", *[None] * (bands.count() - 1)]
    page.get_by_text("Scores and judged items").first.click()
    judged = page.get_by_role("link", name="strongest 2 ")
    expect(judged.first).to_contain_text("elif", timeout=WAIT)
    lead(page, judged.first.click, "**example=top-2")
    target = page.locator(".example.target")
    expect(target).to_be_in_viewport(timeout=WAIT)
    expect(target).to_contain_text("elif")


def test_tabs_are_named_after_what_is_open(
    visit: Visit, addresses: dict[str, str], drawn: Drawn, server: str
) -> None:
    page = visit("")
    titles = []
    for address in addresses.values():
        page.goto(f"{server}/{address}")
        drawn(page)
        titles.append(page.title())
    assert len(set(titles)) == len(titles)
    assert any(title.startswith("#5 · docstrings") for title in titles)
    assert all(title.endswith("featlas") for title in titles)


def test_a_tenth_and_a_quarter_of_the_maximum_look_different() -> None:
    tenth, quarter, whole = (heatmap._heat(share, 1.0) for share in (0.1, 0.25, 1.0))
    assert quarter - tenth >= 0.15
    assert whole == 1.0
    assert heatmap._heat(0.0, 1.0) == heatmap._heat(-1.0, 1.0) == 0.0


def test_heads_sort_both_ways_and_a_page_turned_starts_at_its_top(
    visit: Visit, drawn: Drawn, lead: Lead
) -> None:
    page = visit("browse")
    for order in ("activation", "activation_up"):
        lead(page, page.get_by_role("link", name=re.compile("^largest")).click, f"**sort={order}")
        drawn(page)
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("largest")
    following = page.get_by_role("button", name="Next page")
    following.scroll_into_view_if_needed()
    main = page.locator(MAIN)
    assert main.evaluate("e => e.scrollTop") > 500
    lead(page, following.click, "**page=2**")
    page.wait_for_function(f"() => document.querySelector('{MAIN}').scrollTop === 0", timeout=WAIT)


def test_numbers_and_random_lead_to_features(visit: Visit, drawn: Drawn, synthetic: ModuleType) -> None:
    a = synthetic.dictionary_of("pico-a")
    page = visit(links.page("browse", dictionary=a))
    page.get_by_label(links.SEARCH_LABEL).fill("#73")
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"{a}#73", exact=True).first).to_be_visible(timeout=WAIT)
    page.wait_for_url("**/feature?dictionary=**&feature=73", timeout=WAIT)
    drawn(page)
    page.keyboard.press("r")
    page.wait_for_url(lambda url: "feature=73" not in url and "feature=random" not in url, timeout=WAIT)
    drawn(page)
    assert "dictionary=pico-a" in page.url
    page.go_back()
    expect(page.get_by_text(f"{a}#73", exact=True).first).to_be_visible(timeout=WAIT)
    page.go_back()
    page.wait_for_url("**/browse?dictionary=**", timeout=WAIT)
    page.get_by_label(links.SEARCH_LABEL).fill("random")
    page.keyboard.press("Enter")
    page.wait_for_url("**/feature?dictionary=pico-a**", timeout=WAIT)


def test_definitions_open_by_keyboard_and_touch(visit: Visit) -> None:
    page = visit("", 390, has_touch=True)
    term = page.get_by_role("button", name="above chance").first
    term.tap()
    definition = page.locator(".definition")
    expect(definition).to_contain_text("Share of firing features whose")
    assert _overflow(page) <= 0
    page.get_by_role("button", name="matched").first.focus()
    page.keyboard.press("Enter")
    expect(definition).to_contain_text("mutual best match")
    page.keyboard.press("Escape")
    expect(definition).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "term", "meaning"),
    [
        ("feature", "decoder norm", "Euclidean length"),
        ("feature", "raises", "unembedding"),
        ("browse", "0[.]", "Balanced accuracy: mean of"),
        ("runs", "[0-9]", "rows"),
        ("compare dictionaries", "FVU", "Fraction of variance"),
    ],
)
def test_the_tab_key_reaches_what_a_fact_means_on_a_narrow_screen(
    visit: Visit, addresses: dict[str, str], name: str, term: str, meaning: str
) -> None:
    page = visit(addresses[name], 390)
    button = page.get_by_role("button", name=re.compile(f"^{term}")).first
    button.scroll_into_view_if_needed(timeout=WAIT)
    button.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    definition = page.locator(".definition")
    expect(definition).to_contain_text(meaning)
    expect(definition).to_be_in_viewport()
    assert _overflow(page) <= 0
