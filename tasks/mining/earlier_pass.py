"""The saved state of a mining pass: when the set gains documents, the next pass continues from it.

Codes and sums of earlier parts of a set never change (`tasks.activations.caching.growth`). They are kept in
a folder; what is read back is checked against the set and by SHA-256. A folder that does not fit or is
damaged costs time and nothing else: the pass then starts from the first document.

    codes/           shards of codes, shared with the pass that wrote them
    survey.safetensors
    kept.json        what the pass was about, and the SHA-256 of the files
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from catalog.durable import flush_file, make_folder, replace_file, to_json
from catalog.ids import digest
from tasks.activations.reading.shard_files import shards_digest
from tasks.activations.text.token_files import file_sha256
from tasks.common.shared_files import share_file

if TYPE_CHECKING:
    from tasks.activations.reading.shards import ActivationSet
    from tasks.mining.codes import CodeShard
    from tasks.mining.survey import Survey

ACCUMULATED = ("statistics", "spread", "top", "sample", "pool")
"""Parts of a survey that grow shard by shard."""
CODES = "codes"
_FORMAT = 2
"""Of what is kept; a pass does not go on from another one."""
_SAMPLE = ("features", "positions", "values")
_SURVEY, _RECORD = "survey.safetensors", "kept.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Continued:
    """Asks a pass over a set that grows to go on from an earlier one, and to keep what the next needs."""

    dictionary: str
    """What its codes come from, and how: any text that changes with that."""
    folders: tuple[Path, ...]
    """Where earlier passes left something, the longest first."""
    firings: Callable[[Path], Iterator[pa.RecordBatch] | None] = lambda _: None
    """The rows of ``document_firings`` of the pass that left a folder; None if they are not known."""

    def settings(self, config: Mapping[str, Any], special_token_ids: Sequence[int]) -> dict[str, Any]:
        """What passes must have in common."""
        return {"dictionary": self.dictionary, "config": config, "special": list(special_token_ids)}


@dataclass(frozen=True)
class EarlierPass:
    """A pass over the first sequences of a set."""

    folder: Path
    n_sequences: int
    arrays: Mapping[str, np.ndarray]
    sha256: Mapping[str, str]
    """Of the files in the folder."""

    @property
    def n_chunks(self) -> int:
        return int(self.arrays["n_chunks"].item())

    @property
    def coactivation_share(self) -> float:
        return float(self.arrays["coactivation_share"].item())

    @property
    def coactivation(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, positions and activations of the firings in the sample."""
        features, positions, values = (self.arrays[f"coactivation.{name}"] for name in _SAMPLE)
        return features, positions, values

    def restore(self, name: str, part: Any) -> None:
        """Give a part of a survey the numbers that it had."""
        for attribute, value in _numbers(part).items():
            stored = self.arrays[f"{name}.{attribute}"]
            setattr(part, attribute, int(stored.item()) if isinstance(value, int) else stored.copy())

    def share_codes(self, folder: Path) -> None:
        """Put the shards of codes where the pass looks for finished ones."""
        make_folder(folder)
        for path in (self.folder / CODES).iterdir():
            share_file(path, folder / path.name)


def keep_pass(
    folder: Path,
    found: "Survey",
    shards: Sequence["CodeShard"],
    about: Mapping[str, Any],
    n_sequences: int,
    earlier: EarlierPass | None = None,
) -> None:
    """Write what `find_earlier` reads into ``folder``; ``about`` is `described` of these sequences.

    Codes that were shared by ``earlier`` are not read again for their digests.
    """
    found.spread.close()
    chunks, bits = found.contexts.numbers()
    arrays = {
        "n_chunks": np.asarray(found.n_chunks),
        "coactivation_share": np.asarray(found.coactivation_share, dtype=np.float64),
        "contexts.chunks": chunks,
        "contexts.bits": bits,
    }
    for name, value in zip(_SAMPLE, found.coactivation.sample(), strict=True):
        arrays[f"coactivation.{name}"] = value
    for name in ACCUMULATED:
        numbers = _numbers(getattr(found, name))
        arrays |= {f"{name}.{attribute}": np.asarray(value) for attribute, value in numbers.items()}
    make_folder(folder / CODES)
    for shard in shards:
        share_file(shard.path, folder / CODES / shard.path.name)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _SURVEY)
    flush_file(folder / _SURVEY)
    known = {} if earlier is None else {k: v for k, v in earlier.sha256.items() if k != _SURVEY}
    record = {"about": dict(about), "n_sequences": n_sequences, "sha256": _digests(folder, known)}
    replace_file(folder / _RECORD, to_json(record), "mining.kept")


def find_earlier(
    folders: Sequence[Path], activation_set: "ActivationSet", documents: pa.Table, settings: Mapping[str, Any]
) -> EarlierPass | None:
    """The first of some folders that holds a pass over the beginning of a set, with the same settings."""
    for folder in folders:
        try:
            record = json.loads((folder / _RECORD).read_text("utf-8"))
            n = int(record["n_sequences"])
            about = described(activation_set, documents, settings, n)
            if about is None or record["about"] != about:
                continue
            if record["sha256"] != _digests(folder):
                logger.warning("%s is damaged: mining starts from the first document", folder)
                continue
            return EarlierPass(folder, n, load_file(folder / _SURVEY), record["sha256"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            logger.warning("%s cannot be continued: %s", folder, error)
    return None


def described(
    activation_set: "ActivationSet", documents: pa.Table, settings: Mapping[str, Any], n_sequences: int
) -> dict[str, Any] | None:
    """What a pass over the first sequences of a set depends on; None if no pass ends there."""
    records = {k: v for k, v in activation_set.shards.items() if v.first_sequence < n_sequences}
    if sum(record.n_sequences for record in records.values()) != n_sequences:
        return None
    tokens = activation_set.tokens
    total = hashlib.sha256()
    for array in (tokens.valid, tokens.segment, tokens.document_index):
        total.update(np.ascontiguousarray(array[:n_sequences]).data)
    last = int(np.max(tokens.document_index[:n_sequences], initial=-1))
    return {
        "settings": digest({"format": _FORMAT, **settings}),
        "shards": shards_digest(records),
        "tokens": total.hexdigest(),
        "documents": digest(documents["document_id"][: last + 1].to_pylist()),
    }


def _numbers(part: Any) -> dict[str, Any]:
    """Its arrays and counts by name."""
    kinds = (np.ndarray, int)
    return {k: v for k, v in vars(part).items() if isinstance(v, kinds) and not k.startswith("_")}


def _digests(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    paths = [folder / _SURVEY, *sorted((folder / CODES).iterdir())]
    return {path.name: (known or {}).get(path.name) or file_sha256(path) for path in paths}
