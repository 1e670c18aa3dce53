"""Documents from Parquet files, read a batch of rows at a time."""

from collections.abc import Iterator
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
                file = pq.ParquetFile(path)
            except pa.ArrowInvalid:
                raise UserError(f"{path} is not a Parquet file: name one in corpus.path") from None
            with file:
                refuse_missing_columns(self.config, file.schema_arrow.names, str(path))
                for batch in file.iter_batches(BATCH_ROWS, columns=self.config.wanted_columns()):
                    yield from batch.to_pylist()
