"""Calls that import-linter cannot see and that must never be made."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BANNED = {
    r"\.to_pyarrow_(table|dataset)\(": "aborts short processes; read the file list with pyarrow or DuckDB",
    r"unsafe_allow_html": "runs script from corpus text; draw text nodes",
    r"unsafe_allow_javascript": "runs script from corpus text; draw text nodes",
    r"\btorch\.(load|save)\(": "pickle; use safetensors",
    r"^\s*(import|from) (pickle|cloudpickle|joblib|dill)\b": "pickle; use safetensors, Parquet or JSON",
    r"allow_pickle\s*=\s*True": "pickle; use safetensors, Parquet or JSON",
    r"trust_remote_code\s*=\s*True": "runs code of an unknown author",
    r"\bunion_by_name\b": "binding a view of many files with it is slow; group files by schema version",
    r"st\.html\(": "corpus text could leave its frame; draw text nodes",
}
EXCEPTIONS = {
    # The one file that opens a pickle: in a child process, weights only, when a user asks for it by flag.
    r"\btorch\.(load|save)\(": ["tasks/foreign/unpickle.py"],
}
SOURCES = [
    path
    for folder in ("flows", "tasks", "catalog", "dashboards")
    for pattern in ("*.py", "*.sql")
    for path in sorted((ROOT / folder).rglob(pattern))
]


@pytest.mark.parametrize("pattern", BANNED)
def test_banned_call_is_nowhere(pattern: str) -> None:
    expression = re.compile(pattern, re.MULTILINE)
    found = [str(path.relative_to(ROOT)) for path in SOURCES if expression.search(path.read_text())]
    assert found == EXCEPTIONS.get(pattern, []), f"{found}: {BANNED[pattern]}"


def test_queries_outside_the_catalogue_are_named() -> None:
    """A query is a file in ``catalog/sql`` with a function in ``catalog.queries``."""
    call = re.compile(r"connection\.(execute|sql)\(")
    found = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if not path.is_relative_to(ROOT / "catalog") and call.search(path.read_text())
    ]
    assert found == ["flows/database.py"], "that one asks the database of the Prefect server"
