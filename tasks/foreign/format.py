"""The role of a foreign format: it reads a file or folder; some formats also write one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from catalog.errors import UserError, first_line
from tasks.common.registry import Registry
from tasks.dictionaries.base import Dictionary
from tasks.foreign.config_keys import check_sizes
from tasks.foreign.reading import ReadingConfig, first_reading
from tasks.foreign.record import Foreign, check_foreign


@dataclass(frozen=True)
class Written:
    """A dictionary of ours to write, and its data from the catalogue."""

    dictionary: Dictionary
    model_name: str
    reads: tuple[str, ...]
    """Hookpoints it reads, in our vocabulary."""
    writes: tuple[str, ...]
    described: Mapping[str, Any]
    """Further data to store with the weights: id, corpus, context length."""


class Format(ABC):
    """One file format; the docstring of the subclass names the tool and describes the content."""

    purpose: ClassVar[str]
    """What it does, as the end of a sentence that begins with its name."""

    @abstractmethod
    def read(self, path: Path, *, allow_pickle: bool = False) -> Foreign:
        """The dictionary at ``path`` by the conventions of its tool, shapes not yet checked.

        Raises:
            UserError: when files are missing, damaged, or contain a setting that is not supported.
        """

    def write(self, written: Written, folder: Path) -> None:
        """Write a dictionary for the foreign tool.

        Raises:
            UserError: when the format has no writer, or no place for such a dictionary.
        """
        raise UserError(f"this format is read but not written; formats that are written: {writers()}")


FORMATS: Registry[Format] = Registry("format", "tasks.foreign.formats")


def writers() -> str:
    """Names of the formats that can be written."""
    return ", ".join(name for name in FORMATS if FORMATS[name].write is not Format.write)


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        UserError: when there is none, naming those there are.
    """
    if name not in FORMATS:
        raise UserError(f"there is no format {name!r}; formats are {', '.join(FORMATS)}")
    return FORMATS[name]()


def _check_said_sizes(foreign: Foreign) -> None:
    """Refuse tensors of other sizes than the configuration says, by whatever name its tool calls them."""
    per_hookpoint = foreign.d_in // foreign.n_hookpoints
    sizes = {
        "d_in": per_hookpoint,
        "activation_dim": per_hookpoint,
        "d_out": foreign.d_out // foreign.n_hookpoints,
    }
    sizes |= dict.fromkeys(("d_sae", "dict_size", "num_latents"), foreign.d_sae)
    said = {name: foreign.described[name] for name in sizes if foreign.described.get(name) not in (None, 0)}
    check_sizes(foreign.source, said, sizes)


def read_foreign(
    name: str, path: Path, reading: ReadingConfig | None = None, *, allow_pickle: bool = False
) -> Foreign:
    """The dictionary at ``path`` as its file says, once it is checked that it can be read as asked.

    Raises:
        UserError: one sentence; nothing was stored and nothing of the file was executed.
    """
    reader = format_named(name)
    if not path.exists():
        raise UserError(f"{path} does not exist: name the file or folder that holds the dictionary")
    try:
        foreign = reader.read(path, allow_pickle=allow_pickle)
        read_so = first_reading(foreign, reading or ReadingConfig())
        check_foreign(read_so)
        _check_said_sizes(read_so)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"{path} does not have the layout of a {name} dictionary: {reason}") from error
    return foreign
