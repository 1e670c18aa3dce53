"""``featlas export``: a dictionary of the catalogue, or its measurements, in the format of another tool."""

from pathlib import Path

from catalog.connection import connect
from catalog.errors import UserError
from catalog.resolve import resolve_dictionary
from catalog.settings import catalogue_root
from catalog.store import TableStore

SAEBENCH = "saebench"


def export_command(format_name: str, dictionary: str, path: Path, catalogue: str | None) -> None:
    """Write to a new folder and say what was written.

    Raises:
        UserError: for an unknown format or dictionary, one that the format has no place for, or a folder
            that holds something already.
    """
    _check_format(format_name)
    root = catalogue_root(catalogue)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder: name a new one")
    with connect(root, snapshot=TableStore(root).snapshot()) as connection:
        dictionary_id = resolve_dictionary(connection, dictionary)
        if format_name == SAEBENCH:
            from catalog.exports.saebench import write_saebench

            write_saebench(root, connection, dictionary_id, path)
    if format_name != SAEBENCH:
        _write_weights(format_name, root, dictionary_id, path)
    print(f"{dictionary_id} written to {path} for {format_name}")


def _check_format(name: str) -> None:
    from tasks.dictionaries.formats.format import FORMATS, writers

    if name != SAEBENCH and name not in FORMATS:
        raise UserError(f"there is no format {name!r} to write; formats are {writers()}, {SAEBENCH}")


def _write_weights(format_name: str, root: Path, dictionary_id: str, path: Path) -> None:
    from tasks.dictionaries.formats.format import Written, format_named
    from tasks.dictionaries.weights import load_dictionary
    from tasks.stored import stored_rows

    (row,) = stored_rows(root, "dictionaries", dictionary_id=dictionary_id).to_pylist()
    written = Written(
        load_dictionary(root / row["weights_uri"]),
        " ".join(dict.fromkeys(hook["model_id"] for hook in row["reads"])),
        tuple(hook["hookpoint"] for hook in row["reads"]),
        tuple(hook["hookpoint"] for hook in row["writes"]),
        {"featlas_dictionary_id": dictionary_id, "featlas_activation_set_id": row["activation_set_id"]},
    )
    format_named(format_name).write(written, path)
