"""Addresses inside the dashboard: how to build and parse them."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

PAGES = ("overview", "browse", "feature", "compare", "changes", "runs", "sql")
RANDOM = "random"  # in place of a feature
SEARCH_LABEL = "Search labels"


def page(name: str, **parameters: object) -> str:
    """The address of a page, relative to the dashboard: ``feature?dictionary=...&feature=3``."""
    kept = {key: str(value) for key, value in parameters.items() if value is not None and value != ""}
    return f"{name}?{urlencode(kept)}" if kept else name


def feature(
    dictionary: str, feature_index: int, activation_set: str | None = None, example: str | None = None
) -> str:
    """The address of a feature; ``example``, a band and a rank such as ``top-3``, is the example to open."""
    return page("feature", dictionary=dictionary, feature=feature_index, set=activation_set, example=example)


def compare(a: str, b: str) -> str:
    """The address that compares two dictionaries, or two features in text form."""
    return page("compare", a=a, b=b)


def changes(dictionary: str, set_a: str, set_b: str, comparison: str) -> str:
    """The address of a comparison of what features do on two sets or two groups of documents."""
    return page("changes", dictionary=dictionary, a=set_a, b=set_b, comparison=comparison)


def parse(href: str) -> tuple[str, Mapping[str, str]]:
    """Page name and parameters of an address built by ``page``.

    Raises:
        ValueError: for a page that does not exist.
    """
    name, _, query = href.partition("?")
    if name not in PAGES:
        raise ValueError(f"no page {name!r}; known: {', '.join(PAGES)}")
    return name, dict(parse_qsl(query))
