"""Every statement a page shows runs as it stands: in the console, and in a plain DuckDB on the files."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

import dashboards
from catalog.contained import run_contained
from dashboards import links
from dashboards.components.sql_text import SHOWN

APP = Path(dashboards.__file__).with_name("app.py")
QUOTE = "o'clock $sort \u202e"
States = dict[str, tuple[str, dict[str, str]]]


@pytest.fixture(scope="module")
def states(synthetic: ModuleType) -> States:
    """Every page that shows statements, with values that could break them."""
    a, b = (synthetic.dictionary_of(model) for model in synthetic.MODELS)
    return {
        "overview": ("overview", {}),
        "browse": ("browse", {}),
        "browse, every filter": (
            "browse",
            {"q": f"the {QUOTE}", "token": QUOTE, "model": "pico-a", "status": "alive", "score": "0.6"}
            | {
                "density_low": "1e-5",
                "density_high": "0.5",
                "matched": "yes",
                "sort": "rare",
                "dictionary": a,
            },
        ),
        "feature": ("feature", {"dictionary": a, "feature": "5"}),
        "a feature that never fired": ("feature", {"dictionary": a, "feature": "7"}),
        "two dictionaries": ("compare", {"a": a, "b": b}),
        "two features": ("compare", {"a": f"{a}#5", "b": f"{b}#8"}),
        "changes": ("changes", {"comparison": "labels kind: code | prose"}),
        "runs": ("runs", {}),
    }


NAMES = (
    "overview",
    "browse",
    "browse, every filter",
    "feature",
    "a feature that never fired",
    "two dictionaries",
    "two features",
    "changes",
    "runs",
)


def shown(page: str, query: dict[str, str]) -> list[str]:
    """The statements under a page."""
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    if page != "overview":
        app.switch_page(f"views/{page}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    app.session_state[SHOWN] = True
    return [element.value for element in app.run().code]


def test_every_page_that_asks_queries_is_here(states: States) -> None:
    assert {page for page, _ in states.values()} == set(links.PAGES) - {"sql"}
    assert set(states) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_shown_statement_runs_as_it_stands(
    name: str, states: States, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
    statements = shown(*states[name])
    assert statements
    with duckdb.connect() as files, duckdb.connect(catalogue / "catalogue.duckdb", read_only=True) as views:
        for connection in (files, views):
            connection.execute(f"SET file_search_path = '{catalogue}'")
        files.execute((catalogue / "catalogue.sql").read_text())
        for statement in statements:
            assert all(c.isprintable() or c == "\n" for c in statement)
            in_console = run_contained(catalogue, statement)
            for connection in (files, views):
                rows = connection.sql(statement).fetchall()
                assert len(rows) == len(in_console.rows), statement


def test_a_statement_opens_in_the_console_and_runs(
    states: States, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
    statement = shown(*states["browse"])[0]
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    app.switch_page("views/sql.py")
    app.query_params["q"] = statement
    app.run()
    assert app.text_area[0].value == statement
    assert len(app.dataframe[0].value) == 50


@pytest.mark.parametrize(
    "q", ["COPY features TO '/tmp/featlas-by-link.csv'", "SELECT * FROM read_text('/etc/passwd')"]
)
def test_a_hostile_link_is_refused(open_sql: Callable[[str], AppTest], q: str) -> None:
    app = open_sql(q)
    assert not app.exception
    assert not app.dataframe
    assert not Path("/tmp/featlas-by-link.csv").exists()


@pytest.fixture
def open_sql(catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AppTest]:
    """Open the console at an address."""

    def go(q: str) -> AppTest:
        monkeypatch.setenv("FEATLAS_CATALOG", str(catalogue))
        app = AppTest.from_file(str(APP), default_timeout=60).run()
        app.switch_page("views/sql.py")
        app.query_params["q"] = q
        return app.run()

    return go
