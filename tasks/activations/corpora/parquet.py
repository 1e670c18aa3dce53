"""Documents from Parquet files, read a batch of rows at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import UserError
from tasks.activations.corpora.columns import (
    ColumnsConfig,
    files_of,
    files_revision,
    refuse_missing_columns,
    row_documents,
    with_template,
)
from tasks.activations.corpora.source import CORPUS_SOURCES, CorpusSource, Document

BATCH_ROWS = 256


@CORPUS_SOURCES.register("parquet")
class ParquetCorpus(CorpusSource):
    """One document per row of one file, of all files of a folder, or of a glob pattern."""

    purpose = "reads rows of Parquet files as documents"

    class Config(ColumnsConfig):
        """Documents from Parquet files."""

        source: Literal["parquet"] = "parquet"
        path: str
        """A Parquet file, a folder of them, or a glob pattern."""

    config: Config

    def documents(self) -> Iterator[Document]:
        """Rows in the order of the sorted file names."""
        return row_documents(self._rows(), self.config, prefix="row")

    def describe(self) -> dict[str, str]:
        """Source, a digest of the files, and of the chat template if one is used."""
        return with_template(self.config, {"source": "parquet", "revision": files_revision(self._files())})

    def _files(self) -> list[Any]:
        return list(files_of(self.config.path, ".parquet"))

    def _rows(self) -> Iterator[dict[str, Any]]:
        for path in self._files():
            try:
                file = pq.ParquetFile(path, page_checksum_verification=True)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UserError(
                    f"{path} is not a Parquet file ({_reason(error)}): name one in corpus.path"
                ) from None
            with file:
                refuse_missing_columns(self.config, file.schema_arrow.names, str(path))
                batches = file.iter_batches(BATCH_ROWS, columns=self.config.wanted_columns())
                while (rows := _next_rows(batches, path)) is not None:
                    yield from rows


def _next_rows(batches: Iterator[pa.RecordBatch], path: Path) -> list[dict[str, Any]] | None:
    """The rows of the next batch; None at the end.

    Raises:
        UserError: for a damaged page and for text that is not UTF-8, naming the file.
    """
    try:
        batch = next(batches, None)
        return None if batch is None else list(batch.to_pylist())
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path} is damaged ({_reason(error)}): fetch it again, or leave it out in corpus.path"
        ) from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
