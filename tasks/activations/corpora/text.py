"""Documents from plain text files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from catalog.errors import UserError
from tasks.activations.corpora.columns import files_of, files_revision
from tasks.activations.corpora.source import CORPUS_SOURCES, CorpusSource, Document, SourceConfig
from tasks.common.paths import user_path


@CORPUS_SOURCES.register("text")
class TextCorpus(CorpusSource):
    """One document per UTF-8 file, or per block between blank lines; line ends stay as they are."""

    purpose = "reads UTF-8 files, one document per file or per block between blank lines"

    class Config(SourceConfig):
        """Documents from text files."""

        source: Literal["text"] = "text"
        path: str
        """A text file, a folder (every file in it, hidden ones left out), or a glob pattern."""
        split_on_blank_lines: bool = False
        """Make every block of lines between blank lines a document of its own."""

    config: Config

    def documents(self) -> Iterator[Document]:
        """Files in the order of their paths, blocks in the order of the file."""
        root = user_path(self.config.path)
        for path in files_of(self.config.path):
            name = path.relative_to(root).as_posix() if root.is_dir() else path.as_posix()
            labels: dict[str, str | None] = {"folder": path.parent.name, "file": path.name}
            if not self.config.split_on_blank_lines:
                yield Document(name, "".join(_lines(path)), labels)
                continue
            for number, block in enumerate(_blocks(path)):
                yield Document(f"{name}#{number}", block, labels)

    def describe(self) -> dict[str, str]:
        """Source, a digest of the files, and that line ends are kept (earlier versions did not keep them)."""
        revision = files_revision(files_of(self.config.path))
        return {"source": "text", "revision": revision, "line_ends": "kept"}


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is not UTF-8 text: convert it, or leave it out with a glob pattern in corpus.path"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _blocks(path: Path) -> Iterator[str]:
    block: list[str] = []
    for line in _lines(path):
        if line.strip():
            block.append(line)
        elif block:
            yield "".join(block)
            block = []
    if block:
        yield "".join(block)
