"""Shared code of sources with columns: the columns to read, and how a row becomes a document."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import PositiveInt, model_validator

from catalog.errors import UserError
from tasks.activations.corpora.source import Document, SourceConfig
from tasks.activations.models.source import ModelConfig
from tasks.common.config import StrictConfig
from tasks.common.paths import is_file, is_folder, user_path

if TYPE_CHECKING:
    from tasks.activations.text.chat import ChatTemplate

logger = logging.getLogger(__name__)


class ChatConfig(StrictConfig):
    """The column with conversations, and the model whose chat template renders them."""

    messages_column: str
    """Column with the messages of a conversation: a list of role and content."""
    model: ModelConfig
    """The model whose chat template renders them: one of the pipeline's models."""


class ColumnsConfig(SourceConfig):
    """The columns of a source; give text_column or chat."""

    text_column: str | None = None
    """Column with the text of the document."""
    chat: ChatConfig | None = None
    """For conversations: each becomes a document, rendered with a model's chat template."""
    id_column: str | None = None
    """Column with the document's name, without repeats; by default documents are numbered."""
    label_columns: tuple[str, ...] = ()
    """Columns to keep with the text as labels, for example language or topic."""
    max_documents: PositiveInt | None = None
    """Maximum number of rows to read, from the start."""
    lines_per_document: PositiveInt | None = None
    """Cut the text of each row into documents of this number of lines, without empty lines; null: no cut."""

    later_fields: ClassVar[frozenset[str]] = SourceConfig.later_fields | {"lines_per_document"}

    @model_validator(mode="after")
    def _one_kind_of_text(self) -> Self:
        if (self.text_column is None) == (self.chat is None):
            raise ValueError("give exactly one of text_column and chat")
        if self.chat is not None and self.lines_per_document is not None:
            raise ValueError("lines_per_document cuts a text_column, and a conversation stays whole")
        return self

    @property
    def content_column(self) -> str:
        """The column from which the text is made."""
        name = self.chat.messages_column if self.chat is not None else self.text_column
        assert name is not None
        return name

    def growth_fault(self) -> str | None:
        """Numbered documents are known by their place, which a new row can take."""
        if self.id_column is not None:
            return None
        return "name an id_column, because numbered documents cannot be told from new ones"

    def wanted_columns(self) -> list[str]:
        """Every column to read, each once."""
        named = [self.content_column, *([self.id_column] if self.id_column else []), *self.label_columns]
        return list(dict.fromkeys(named))


def row_documents(
    rows: Iterable[Mapping[str, Any]], config: ColumnsConfig, prefix: str
) -> Iterator[Document]:
    """Documents from rows, streamed; a null text is an empty document.

    Args:
        prefix: The name of numbered documents, ``PREFIX-00000012``.

    Raises:
        UserError: for a text that is not text, invalid messages, and a missing id.
    """
    template = chat_template(config)
    n_left_out = 0
    for number, row in enumerate(islice(rows, config.max_documents)):
        content = row[config.content_column]
        if template is not None and content is not None:
            content = template.render(content, f"row {number} of column {config.content_column!r}")
            n_left_out += content is None
        if content is not None and not isinstance(content, str):
            raise UserError(
                f"column {config.content_column!r} holds {type(content).__name__}, not text: "
                "name another text_column"
            )
        name = f"{prefix}-{number:08d}" if config.id_column is None else row[config.id_column]
        if name is None:
            raise UserError(
                f"row {number} has no value in column {config.id_column!r}: name another id_column, or "
                "leave it out to number the documents"
            )
        labels = {label: _as_label(row[label]) for label in config.label_columns}
        if config.lines_per_document is None:
            yield Document(str(name), content or "", labels)
            continue
        for part, text in enumerate(_passages(content or "", config.lines_per_document)):
            yield Document(f"{name}#{part}", text, labels)
    if n_left_out:
        logger.warning("%d conversations are left out: a message holds a special token itself", n_left_out)


def chat_template(config: ColumnsConfig) -> "ChatTemplate | None":
    """The renderer of a source's conversations; None if it has texts."""
    if config.chat is None:
        return None
    from tasks.activations.text.chat import ChatTemplate  # brings Transformers

    return ChatTemplate(config.chat.model)


def with_template(config: ColumnsConfig, described: dict[str, str]) -> dict[str, str]:
    """A source's description, with the digest of its chat template if it has one."""
    template = chat_template(config)
    return described if template is None else {**described, "chat_template": template.digest}


def refuse_missing_columns(config: ColumnsConfig, present: Iterable[str], where: str) -> None:
    """Refuse missing columns, and name the existing ones.

    Raises:
        UserError: when a column of the configuration is missing, or exists more than once.
    """
    known = sorted(present)
    double = [column for column in config.wanted_columns() if known.count(column) > 1]
    if double:
        raise UserError(f"{where} has several columns named {double[0]!r}: rename all but the one to read")
    missing = [column for column in config.wanted_columns() if column not in known]
    if missing:
        raise UserError(f"{where} has no column {missing[0]!r}: its columns are {', '.join(known) or 'none'}")


def files_of(path: str, suffix: str | None = None) -> list[Path]:
    """The files of a path, sorted: a file, a folder (everything in it), or a glob pattern.

    Args:
        suffix: In a folder, take the files with this ending.

    Raises:
        UserError: when there is none.
    """
    place = user_path(path)
    if is_file(place):
        return [place]
    if is_folder(place):
        found = place.rglob(f"*{suffix or ''}")
        files = [file for file in found if not _is_hidden(file.relative_to(place))]
    else:
        anchor = Path(place.anchor)
        pattern = str(place.relative_to(anchor) if place.anchor else place)
        files = _matching(anchor, pattern) if any(sign in pattern for sign in "*?[") else []
    files = sorted(file for file in files if is_file(file))
    if not files:
        raise UserError(f"no {suffix or 'text'} file at {path!r}: name a file, a folder or a glob pattern")
    return files


def _matching(anchor: Path, pattern: str) -> list[Path]:
    try:
        return list(anchor.glob(pattern))
    except (ValueError, NotImplementedError, OSError, RecursionError) as error:
        raise UserError(f"{pattern!r} is not a glob pattern: {error}") from None


def files_revision(files: Iterable[Path]) -> str:
    """sha256 over names and contents of files, shortened to 16 hex digits."""
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from None
        digest.update(f"{file.name}\t{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _passages(text: str, n_lines: int) -> Iterator[str]:
    """Pieces of ``n_lines`` lines, each with its line ends; empty lines are left out."""
    lines = [line for line in text.splitlines(keepends=True) if line.strip()]
    for start in range(0, len(lines), n_lines):
        yield "".join(lines[start : start + n_lines])


def _as_label(value: object) -> str | None:
    return None if value is None else str(value)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
