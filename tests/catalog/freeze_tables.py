"""Freeze the columns of every version of every table in ``tests/golden/tables.json``.

Run ``python tests/catalog/freeze_tables.py`` after a table changed. A version that was released is never
changed: files with that layout are in people's catalogues.
"""

import json
import sys
from pathlib import Path

from catalog.relations import sql_type
from catalog.schemas import TABLES, TableSpec

GOLDEN = Path(__file__).parents[1] / "golden" / "tables.json"

Layout = dict[str, str]
"""Column → DuckDB type."""


def frozen() -> dict[str, dict[str, Layout]]:
    """The golden file: table → version → layout."""
    content: dict[str, dict[str, Layout]] = json.loads(GOLDEN.read_text())["layouts"]
    return content


def released() -> dict[str, int]:
    """Table → newest version that a release wrote."""
    content: dict[str, int] = json.loads(GOLDEN.read_text())["released"]
    return content


def layout(spec: TableSpec, version: int) -> Layout:
    """Columns that a file of ``version`` has, as ``spec`` says now."""
    return {c.name: sql_type(c.type) for c in spec.columns if c.since <= version}


def advice(spec: TableSpec) -> str | None:
    """What must be done before the tables can be frozen; None where a table is in order."""
    version = released().get(spec.name, 0)
    for old in range(1, version + 1):
        was, now = frozen()[spec.name][str(old)], layout(spec, old)
        changed = sorted(set(was.items()) ^ set(now.items()))
        if changed:
            return (
                f"{spec.name}: version {old} is released and its columns changed ({changed[0][0]}). Put the "
                f"released columns back as they were, set version={version + 1} (once for the coming "
                f"release: leave it if it is raised already), write each new column as "
                f"optional(..., since={version + 1}), then run python tests/catalog/freeze_tables.py, "
                "python -m catalog.data_dictionary, and add a line to CHANGELOG.md"
            )
    if spec.version > version + 1:
        return (
            f"{spec.name}: version {version} is the newest released one, so the coming release "
            f"writes version {version + 1}, not {spec.version}"
        )
    return None


def freeze() -> list[str]:
    """Write the layouts of all versions; returns what stands in the way instead, if anything does."""
    problems = [said for spec in TABLES.values() if (said := advice(spec)) is not None]
    if not problems:
        content = {
            "released": released(),
            "layouts": {
                spec.name: {str(v): layout(spec, v) for v in range(1, spec.version + 1)}
                for spec in TABLES.values()
            },
        }
        GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
    return problems


if __name__ == "__main__":
    sys.exit("\n".join(freeze()) or None)
