"""Signatures of texts, kept in a file between the readings of a corpus that grows.

A signature belongs to a text, whose SHA-256 names it, so a file that is out of date does no harm: what it
lacks is computed. A damaged file is not used.
"""

import contextlib
import logging
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from catalog.durable import make_folder, temporary_beside
from tasks.activations.corpora.near_duplicates import N_BINS, Signature, signature

logger = logging.getLogger(__name__)


class KeptSignatures:
    """The signatures of a file, and those that were computed since."""

    def __init__(self, path: Path | None = None) -> None:
        """``path`` is the file, None to keep nothing."""
        self._path = path
        self._known: dict[bytes, Signature] = {}
        self._used: dict[bytes, Signature] = {}
        if path is not None and path.is_file():
            self._known = _read(path)

    def of(self, text: str, sha256: str) -> Signature:
        """The signature of a text with this SHA-256 (hex)."""
        name = bytes.fromhex(sha256)
        if name not in self._used:
            known = self._known.get(name)
            self._used[name] = signature(text) if known is None else known
        return self._used[name]

    def save(self) -> None:
        """Keep the signatures that were asked for; a file that cannot be written is no error."""
        if self._path is None or not self._used:
            return
        names = np.frombuffer(b"".join(self._used), np.uint8).reshape(-1, 32)
        unfinished = temporary_beside(self._path)
        try:
            make_folder(self._path.parent)
            save_file({"texts": names.copy(), "signatures": np.stack(list(self._used.values()))}, unfinished)
            unfinished.replace(self._path)
        except (OSError, SafetensorError) as error:
            logger.warning("%s is not kept: %s", self._path, error)
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)


def _read(path: Path) -> dict[bytes, Signature]:
    try:
        arrays = load_file(path)
        names, signatures = arrays["texts"], arrays["signatures"]
        shapes, kinds = (names.shape, signatures.shape), f"{names.dtype} {signatures.dtype}"
        if kinds != "uint8 uint64" or shapes != ((len(names), 32), (len(names), N_BINS)):
            raise ValueError("it holds something else")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        logger.warning("signatures of %s are computed again: %s", path, error)
        return {}
    return {bytes(name): own for name, own in zip(names, signatures, strict=True)}
