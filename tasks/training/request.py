"""The request to a training process and its result: the only types that cross between processes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from catalog.durable import replace_file
from tasks.activations.models.source import ModelConfig
from tasks.common.config import StrictConfig
from tasks.dictionaries.base import AnyDictionaryConfig
from tasks.dictionaries.config import Precision

AbsolutePath = Annotated[Path, AfterValidator(Path.resolve)]
"""A process may start in another folder."""


class TrainingRequest(StrictConfig):
    """One dictionary that a training process trains."""

    config: AnyDictionaryConfig
    reads: tuple[AbsolutePath, ...] = Field(min_length=1)
    """Folders of the activation sets that are read."""
    writes: tuple[AbsolutePath, ...] | None = None
    """Folders of those that are written; None if the input is reconstructed."""
    scratch: AbsolutePath
    """Working folder; a rerun continues from the checkpoints in it."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Metadata for cfg.json: model_name, hook_name and the like."""
    labels: AbsolutePath | None = None
    """Labels of the documents, for architectures that read them."""
    model: ModelConfig | None = None
    """The language model, for architectures that train with it in the loop."""
    parent: AbsolutePath | None = None
    """Folder of the dictionary whose weights it starts from; None for random ones."""


class TrainingOptions(StrictConfig):
    """How trainings run; no option changes results by more than rounding.

    On a CPU results are the same bit for bit for the same number of threads and processes.
    """

    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    n_threads: int | None = None
    """CPU threads of a new training; default: the cores that this process may use, limited by the size of
    the training; a resumed one keeps its number."""
    precision: Precision = "auto"
    """Of matrix products: ``auto`` is bfloat16 on GPUs that have it, else float32. Weights stay float32."""
    checkpoint_seconds: float = 15.0
    """Shortest time between two checkpoints, longer if saving takes more than a twentieth of the time;
    0 saves after every step."""


class TrainingResult(StrictConfig):
    """Facts of a finished training."""

    weights_digest: str
    scales: tuple[float, ...]
    n_nonfinite: int
    tokens_per_second: float
    log: list[tuple[int, int, str, float]]
    """Rows of the training log: step, n_tokens, metric, value."""


class Refusal(StrictConfig):
    """An error that trying again would not fix."""

    kind: Literal["user", "nonfinite"]
    message: str


Requested = tuple[tuple[TrainingRequest, ...], TrainingOptions]
_FILE: TypeAdapter[Requested] = TypeAdapter(Requested)


def write_requests(path: Path, requests: tuple[TrainingRequest, ...], options: TrainingOptions) -> None:
    """Write what a training process is asked for."""
    replace_file(path, _FILE.dump_json((requests, options)))


def read_requests(path: Path) -> Requested:
    """Read it in that process."""
    return _FILE.validate_json(path.read_bytes())
