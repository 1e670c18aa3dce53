"""``featlas export``: write a dictionary of the catalogue, or its metrics, in the format of another tool."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from catalog.connection import connect
from catalog.damage import naming_damaged_files
from catalog.errors import UserError
from catalog.resolve import resolve_dictionary
from catalog.settings import catalogue_root
from catalog.store import TableStore

SAEBENCH = "saebench"


def export_command(format_name: str, dictionary: str, path: Path, catalogue: str | None) -> None:
    """Write to a new folder and print what was written.

    Raises:
        UserError: for an unknown format or dictionary, a dictionary that the format cannot represent, or a
            folder that is not empty.
    """
    _check_format(format_name)
    root = catalogue_root(catalogue)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder: name a new one")
    with naming_damaged_files(root):
        with connect(root, snapshot=TableStore(root).snapshot()) as connection:
            dictionary_id = resolve_dictionary(connection, dictionary)
            if format_name == SAEBENCH:
                from catalog.exports.saebench import write_saebench

                write_saebench(root, connection, dictionary_id, path)
        if format_name != SAEBENCH:
            _write_weights(format_name, root, dictionary_id, path)
    print(f"{dictionary_id} written to {path} for {format_name}")


def _check_format(name: str) -> None:
    from tasks.foreign.format import FORMATS, writers

    if name != SAEBENCH and name not in FORMATS:
        raise UserError(f"there is no format {name!r} to write; formats are {writers()}, {SAEBENCH}")


def _write_weights(format_name: str, root: Path, dictionary_id: str, path: Path) -> None:
    from tasks.dictionaries.weights import load_dictionary
    from tasks.foreign.format import Written, format_named
    from tasks.support.stored import stored_rows, weights_folder

    (row,) = stored_rows(root, "dictionaries", dictionary_id=dictionary_id).to_pylist()
    written = Written(
        load_dictionary(weights_folder(root, row)),
        " ".join(public_names(root, dict.fromkeys(hook["model_id"] for hook in row["reads"]))),
        tuple(hook["hookpoint"] for hook in row["reads"]),
        tuple(hook["hookpoint"] for hook in row["writes"]),
        described(root, row),
    )
    format_named(format_name).write(written, path)


def public_names(root: Path, model_ids: Iterable[str]) -> list[str]:
    """The models under the names that other tools use: hub repository or folder, else the id."""
    from tasks.support.stored import stored_rows

    names = []
    for model_id in model_ids:
        rows = stored_rows(root, "models", model_id=model_id).to_pylist()
        names.append(next((row["location"] for row in rows if row["location"]), model_id))
    return names


def described(root: Path, dictionary: Mapping[str, Any]) -> dict[str, Any]:
    """What other tools need to use a dictionary: its model, and the texts, context and BOS of its training.

    A person chose the names in the catalogue; digests and revision say what they refer to. Keys without the
    prefix are those of SAELens. Keys that the catalogue has no value for are left out.

    Args:
        root: The catalogue.
        dictionary: Its row of ``dictionaries``.
    """
    from tasks.support.stored import stored_rows

    found: dict[str, Any] = {
        "featlas_dictionary_id": dictionary["dictionary_id"],
        "featlas_activation_set_id": dictionary["activation_set_id"],
    }
    sets = stored_rows(root, "activation_sets", activation_set_id=dictionary["activation_set_id"])
    for row in sets.to_pylist():
        found |= {
            "context_size": row["context_length"],
            "prepend_bos": row["bos"] != "none",
            "dataset_path": row["corpus_id"],
            "featlas_bos": row["bos"],
            "featlas_packing": row["packing"],
        }
        for corpus in stored_rows(root, "corpora", corpus_id=row["corpus_id"]).to_pylist():
            found |= {
                "featlas_dataset_source": corpus["source"],
                "featlas_dataset_revision": corpus["revision"],
                "featlas_dataset_digest": corpus["digest"],
            }
        for model in stored_rows(root, "models", model_id=row["model_id"]).to_pylist():
            found |= {
                "featlas_model_id": model["model_id"],
                "featlas_model_source": model["source"],
                "featlas_model_revision": model["revision"],
                "featlas_model_architecture": model["architecture"],
                "featlas_model_weights_digest": model["weights_digest"],
            }
    return {name: value for name, value in found.items() if value is not None}
