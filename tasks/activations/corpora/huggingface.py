"""Documents from a Hugging Face dataset, streamed; no code of the dataset runs."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import model_validator

from catalog.errors import UserError, first_line
from tasks.activations.corpora.columns import (
    ColumnsConfig,
    files_of,
    files_revision,
    refuse_missing_columns,
    row_documents,
    with_template,
)
from tasks.activations.corpora.source import CORPUS_SOURCES, CorpusSource, Document
from tasks.common.paths import is_folder, user_path


@CORPUS_SOURCES.register("huggingface")
class HuggingFaceCorpus(CorpusSource):
    """One document per row of one split of a dataset on the hub or in a local folder."""

    purpose = "reads rows of a dataset on the Hugging Face hub or in a local folder"

    class Config(ColumnsConfig):
        """Documents from a Hugging Face dataset."""

        source: Literal["huggingface"] = "huggingface"
        dataset: str
        """Name on the hub (``owner/name``) or a local folder of data files."""
        name: str | None = None
        """Configuration of the dataset, if it has several."""
        split: str = "train"
        """Split of the dataset to read; featlas divides it into train and eval itself."""
        revision: str | None = None
        """Commit or tag of the dataset; needed for a dataset on the hub, so that a rerun reads the same."""

        @model_validator(mode="after")
        def _bound_hub_datasets(self) -> "HuggingFaceCorpus.Config":
            if is_folder(user_path(self.dataset)):
                return self
            if self.revision is None or self.max_documents is None:
                raise ValueError(
                    f"dataset {self.dataset!r} is not a local folder, so it is read from the hub: "
                    "pin a commit in corpus.revision and limit the documents with corpus.max_documents"
                )
            return self

    config: Config

    def documents(self) -> Iterator[Document]:
        """Rows in the order of the dataset."""
        return row_documents(self._rows(), self.config, prefix=self.config.split)

    def describe(self) -> dict[str, str]:
        """Source and revision: the pinned commit, or a digest of the local files."""
        folder = self._folder()
        revision = self.config.revision or files_revision(files_of(str(folder)))
        described = {"source": "huggingface", "revision": f"{self.config.dataset}@{revision}"}
        return with_template(self.config, described)

    def _folder(self) -> Path | None:
        folder = user_path(self.config.dataset)
        return folder if is_folder(folder) else None

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        import datasets  # heavy, and only this source needs it

        config = self.config
        try:
            rows = datasets.load_dataset(
                str(self._folder() or config.dataset),
                config.name,
                split=config.split,
                revision=config.revision,
                streaming=True,
            )
        except Exception as error:  # each file type has a reader with its own errors
            raise UserError(f"the dataset {config.dataset!r} cannot be read: {_reason(error)}") from error
        if rows.column_names is not None:
            refuse_missing_columns(config, rows.column_names, f"the dataset {config.dataset!r}")
        yield from self._readable(cast(Iterable[Mapping[str, Any]], rows))

    def _readable(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """The rows; an error of the reader of a damaged file becomes one sentence."""
        waiting = iter(rows)
        while True:
            try:
                row = next(waiting, None)
            except Exception as error:  # each file type has a reader with its own errors
                raise UserError(
                    f"the dataset {self.config.dataset!r} is damaged: {_reason(error)}"
                ) from error
            if row is None:
                return
            refuse_missing_columns(self.config, row, f"a row of the dataset {self.config.dataset!r}")
            yield row


def _reason(error: Exception) -> str:
    return first_line(error)[:200]
