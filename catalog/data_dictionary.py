"""The data dictionary in ``catalog/README.md``, made by ``python -m catalog.data_dictionary``."""

from pathlib import Path

from catalog.relations import derived_views, sql_type, view_comment
from catalog.schemas import COMMON_COLUMNS, TABLES, TableSpec

README = Path(__file__).with_name("README.md")
BEGIN = "<!-- generated from schemas: python -m catalog.data_dictionary -->"
END = "<!-- end of the generated part -->"


def data_dictionary() -> str:
    """The generated part: common columns, derived views, and one section per table."""
    runs = TABLES["runs"]
    common = "\n".join(f"- `{name}`: {runs.column(name).description}." for name in COMMON_COLUMNS)
    views = "\n".join(f"| `{name}` | {view_comment(name)} |" for name, _ in derived_views())
    tables = "\n\n".join(_section(spec) for spec in TABLES.values())
    return (
        f"Every row of every table also has\n\n{common}\n\n### Derived views\n\n| view | rows |\n|--|--|\n"
        f"{views}\n\n{tables}"
    )


def updated(text: str) -> str:
    """``text`` of a README with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{data_dictionary()}\n\n{END}{after}"


def _section(spec: TableSpec) -> str:
    kind = "append-only" if spec.append_only else "replaceable by subject"
    layout = f"partitioned by {', '.join(spec.partition_by)}" if spec.partition_by else "slices share files"
    lines = [
        f"### {spec.name}",
        "",
        f"One row per {spec.row}. Key: {', '.join(f'`{name}`' for name in spec.key)}. Schema version "
        f"{spec.version}, {kind}, {layout}.",
        "",
        "| column | type | meaning |",
        "|--|--|--|",
    ]
    for column in spec.columns:
        if column.name in COMMON_COLUMNS:
            continue
        notes = [column.description]
        if column.values:
            notes.append("one of " + ", ".join(f"`{value}`" for value in column.values))
        if column.nullable:
            notes.append("may be null")
        lines.append(f"| `{column.name}` | `{sql_type(column.type)}` | {'; '.join(notes)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
