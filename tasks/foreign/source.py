"""The foreign file to read, and how: small enough to travel between stages."""

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from torch import Tensor

from catalog.errors import UserError
from tasks.common.config import StrictConfig
from tasks.foreign.format import read_foreign
from tasks.foreign.reading import ReadingConfig
from tasks.foreign.record import Foreign

_NAME_IN_DIGEST = {"n_hookpoints": "n_sites"}
"""Fields whose names changed after digests of them were stored."""
_NOT_OF_THE_FILE = ("source", "described", "models", "site_scales", "attention")


class ForeignSource(StrictConfig):
    """A foreign dictionary on disk."""

    format: str
    """Name of the format, for example saelens."""
    path: Path
    """File or folder."""
    reading: ReadingConfig = ReadingConfig()
    """Settings by which it is read otherwise than it says."""
    allow_pickle: bool = False
    """Whether a pickled file may be opened, in a child process that can make nothing but tensors of it."""
    digest: str = ""
    """Digest of the first read; a stage that finds another one refuses."""

    def read(self) -> Foreign:
        """The dictionary as its file says, checked.

        Raises:
            UserError: when it cannot be read as asked, or is not what was read first.
        """
        foreign = read_foreign(self.format, self.path, self.reading, allow_pickle=self.allow_pickle)
        if self.digest and foreign_digest(foreign) != self.digest:
            raise UserError(f"{self.path} changed while it was being imported: start again")
        return foreign

    def described(self) -> dict[str, object]:
        """What was read and how, without its path: plain JSON values."""
        return {"format": self.format, "reading": self.reading.canonical(), "digest": self.digest}

    def pinned(self, foreign: Foreign) -> "ForeignSource":
        """The same, bound to what was just read."""
        return self.model_copy(update={"digest": foreign_digest(foreign)})


def foreign_digest(foreign: Foreign) -> str:
    """SHA-256 of weights and conventions; not of where the file lies."""
    total = hashlib.sha256()
    for name, value in _parts(foreign):
        total.update(f"{name}\n".encode())
        if isinstance(value, Tensor):
            total.update(str(tuple(value.shape)).encode())
            total.update(value.contiguous().numpy().tobytes())
        else:
            total.update(repr(value).encode())
    return total.hexdigest()


def _parts(foreign: Foreign) -> Iterable[tuple[str, object]]:
    for field in fields(foreign):
        if field.name not in _NOT_OF_THE_FILE:
            yield _NAME_IN_DIGEST.get(field.name, field.name), getattr(foreign, field.name)
    if foreign.attention is not None:
        for field in fields(foreign.attention):
            if field.name != "tensors":
                yield field.name, getattr(foreign.attention, field.name)
        yield from foreign.attention.tensors.items()
