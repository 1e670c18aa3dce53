"""The source of a language model's files, checked before any of them is used.

Whatever the source, the result is a local folder in the Transformers layout. Weights are only safetensors,
and code that comes with a model never runs.
"""

import hashlib
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from catalog.errors import UserError
from catalog.ids import check_name
from tasks.activations.hookpoint import HookpointText
from tasks.activations.models.embedded import Kinship, embedded_model_path, kinship
from tasks.activations.models.files import ModelFiles, read_model_files, tensor_shapes
from tasks.activations.models.multimodal import NESTED, language_tensors
from tasks.common.config import StrictConfig
from tasks.common.paths import is_folder, user_path
from tasks.common.plain_files import read_json_object

ModelOrigin = Literal["embedded", "local", "huggingface", "reinitialised"]
Quantisation = Literal["int8", "int4"]
WeightFormat = Literal["float32", "bfloat16", "float16"]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
)
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "tokenizer.model"]
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class SeriesConfig(StrictConfig):
    """The place of a checkpoint in one training."""

    id: str
    """Name of the training; its checkpoints share it."""
    step: int = Field(ge=0)
    """Optimiser steps done at this checkpoint."""

    @classmethod
    def of(cls, place: tuple[str, int]) -> Self:
        """From the name of the training and the step."""
        return cls(id=place[0], step=place[1])


class ModelConfig(StrictConfig):
    """A language model and its source."""

    later_fields: ClassVar[frozenset[str]] = frozenset(
        {"of", "seed", "parent", "adapter", "quantise", "series"}
    )

    id: str
    """Name of the model in the catalogue."""
    source: ModelOrigin
    """embedded (comes with featlas), local (a folder), huggingface (a repository of the hub) or
    reinitialised (another model with every weight redrawn)."""
    path: str | None = None
    """Folder of a local model, or owner/name of a repository of the hub."""
    revision: str | None = None
    """Commit of a hub repository, all 40 hex digits."""
    dtype: WeightFormat = "float32"
    """Number format in which the model runs."""
    hookpoints: tuple[HookpointText, ...] = Field(default=())
    """Hookpoints of this model; if given they replace those of the activations section."""
    of: "ModelConfig | None" = None
    """For reinitialised: the model whose weights are redrawn; a pipeline names it by its id."""
    seed: int | None = Field(default=None, ge=0)
    """For reinitialised: seed of the weights."""
    parent: str | None = None
    """Id of the model that this one was tuned or made from."""
    adapter: str | None = None
    """Folder of a LoRA adapter in the PEFT layout, merged into the weights on loading."""
    quantise: Quantisation | None = None
    """Rounds the weights of linear layers on loading: int8 (a scale per row) or int4 (a scale per group)."""
    series: SeriesConfig | None = None
    """The training that this model is a checkpoint of."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        try:
            check_name(self.id, "model id")
        except UserError as error:
            raise ValueError(str(error)) from None
        if (self.path is None) == (self.source in ("local", "huggingface")):
            raise ValueError(f"model {self.id!r}: 'path' belongs to the sources local and huggingface")
        is_redrawn = self.source == "reinitialised"
        if (self.of is not None, self.seed is not None) != (is_redrawn, is_redrawn):
            raise ValueError(
                f"model {self.id!r}: 'of' and 'seed' belong to the source reinitialised, which needs both"
            )
        if self.of is not None and (self.of.source == "reinitialised" or self.adapter):
            raise ValueError(
                f"model {self.id!r}: a reinitialised model is of one with stored weights, without 'adapter'"
            )
        if self.source == "embedded" and (self.adapter or self.quantise):
            raise ValueError(
                f"model {self.id!r}: an embedded model has the id of its stored weights; for 'adapter' and "
                "'quantise' give its folder as source local, with another id"
            )
        self._check_kinship()
        if self.source == "huggingface" and _COMMIT.fullmatch(self.revision or "") is None:
            raise ValueError(
                f"model {self.id!r}: pin 'revision' to a full commit hash (40 hex digits), "
                "so that the same model is read every night"
            )
        if self.source != "huggingface" and self.revision is not None:
            raise ValueError(f"model {self.id!r}: 'revision' belongs to the source huggingface")
        return self

    def _check_kinship(self) -> None:
        """Refuse a parent or series that an embedded model does not have."""
        known = self._kinship
        if known.parent is not None and self.parent not in (None, known.parent):
            raise ValueError(f"model {self.id!r} was tuned from {known.parent!r}: leave out 'parent'")
        if known.series is not None and self.series not in (None, SeriesConfig.of(known.series)):
            raise ValueError(
                f"model {self.id!r} is step {known.series[1]} of {known.series[0]!r}: leave out 'series'"
            )

    @property
    def _kinship(self) -> Kinship:
        return kinship(self.id) if self.source == "embedded" else Kinship()

    @property
    def has_known_parent(self) -> bool:
        """Whether its parent comes with featlas."""
        return self._kinship.parent is not None

    @property
    def parent_id(self) -> str | None:
        """The model it was tuned or made from, as the configuration says or an embedded model has it."""
        return self.parent or (self.of.id if self.of is not None else self._kinship.parent)

    @property
    def training(self) -> SeriesConfig | None:
        """The training that it is a checkpoint of, as the configuration says or an embedded model has it."""
        known = self._kinship.series
        return self.series or (SeriesConfig.of(known) if known is not None else None)

    def canonical(self) -> dict[str, Any]:
        """As every configuration, without the hookpoints of the model that it is of."""
        values = super().canonical()
        if self.of is not None:
            values["of"] = self.of.model_copy(update={"hookpoints": ()}).canonical()
        return values


def model_folder(config: ModelConfig) -> Path:
    """The checked local folder of a model; a hub model is fetched first (or found in the hub's cache).

    That of a reinitialised model is the folder of the model it is made from.

    Raises:
        UserError: when the folder is missing, incomplete or unsafe.
    """
    if config.of is not None:
        return model_folder(config.of)
    if config.source == "embedded":
        folder = embedded_model_path(config.id)
    elif config.source == "local":
        folder = user_path(str(config.path))
    else:
        folder = _fetch(str(config.path), str(config.revision))
    check_model_folder(folder)
    return folder


def _fetch(repository: str, commit: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=HUB_FILES))
    except LocalEntryNotFoundError:
        raise UserError(
            f"model {repository} at {commit} is not in the hub's cache and the hub cannot be reached: "
            "fetch it once while online, or use source: local"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"model {repository} at {commit} cannot be fetched: {first_line}") from error


def check_model_folder(folder: Path) -> ModelFiles:
    """Refuse a folder that is not a model, is pickled, needs its own code, or cannot run.

    `read_model_files` refuses what no stage could run (a quantised model, an encoder-decoder, weights of
    other sizes than in the configuration); its result is returned.

    Raises:
        UserError: with the reason and the remedy.
    """
    if not is_folder(folder):
        raise UserError(f"model folder {folder} does not exist: check 'path'")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: 'path' must be a folder in the Transformers layout")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in _json_object(folder / name):
            raise UserError(
                f"{folder / name} asks to run code that comes with the model (auto_map): "
                "featlas never does; use a model whose type Transformers knows"
            )
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"{folder} has no tokenizer: save the model's tokenizer next to its weights")
    return read_model_files(folder, _json_object(folder / "config.json"), weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model, sorted by name.

    Raises:
        UserError: when there are none, one is missing, or the index points outside the folder.
    """
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    if (folder / INDEX_FILE).is_file():
        return _sharded_files(folder)
    if any(any(folder.glob(pattern)) for pattern in _PICKLED):
        raise UserError(
            f"{folder} holds pickled weights only, which can run code: convert them to safetensors "
            "(model.save_pretrained in Transformers)"
        )
    raise UserError(f"{folder} has no {SINGLE_FILE}: check 'path'")


def _sharded_files(folder: Path) -> list[Path]:
    weight_map = _json_object(folder / INDEX_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{folder / INDEX_FILE} lists no weights: fetch the model again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UserError(f"{folder / INDEX_FILE} names the invalid file {name!r}: do not use this model")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: fetch the model again")
    return [folder / name for name in names]


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the tokenizer's files."""
    files = [folder / name for name in sorted(TOKENIZER_FILES) if (folder / name).is_file()]
    return _files_digest(files)


def weights_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the weight files."""
    return _files_digest(weight_files(folder))


def count_parameters(folder: Path) -> int:
    """Numbers of the language model in the weight files, read from their headers; tied weights count once.

    Raises:
        UserError: when a file is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        shapes |= tensor_shapes(path)
    if NESTED in _json_object(folder / "config.json"):
        shapes = language_tensors(shapes)
    return sum(math.prod(shape) for shape in shapes.values())


def _files_digest(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        total.update(f"{path.name}\t{_file_digest(path, stat.st_mtime_ns, stat.st_size)}\n".encode())
    return total.hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: Path, mtime_ns: int, n_bytes: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_object(path: Path) -> dict[str, Any]:
    return read_json_object(path, "fetch the model again")
