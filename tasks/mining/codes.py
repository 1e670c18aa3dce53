"""Sparse codes of an activation set, written to disk feature by feature.

Every activation is encoded once. A shard holds the firings of a fixed range of sequences, sorted by feature
and then by position, so that statistics, selection and the cutting of contexts each read little. A finished
shard is also the resume point: only configuration and first sequences determine where shards end, and they
are written atomically, so an interrupted run ends with the same shards as an uninterrupted one.

Shapes: B sequences, T context, N tokens, D ``d_in``, L ``d_sae``, K kept, E firings.
A position is ``sequence_index * context_length + token``, int64.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from catalog.durable import flush_file, flush_folder, temporary_beside
from catalog.errors import UserError
from catalog.faults import fault_point
from tasks.activations.reading.shard_files import shard_starts
from tasks.common.progress import Progress, ProgressListener

if TYPE_CHECKING:
    from tasks.activations.reading.shards import ActivationSet
    from tasks.dictionaries.base import Dictionary

_FORMAT = "featlas codes 1"
_FACTS = ("first", "n", "n_tokens", "n_nonfinite")
_DENSE_NUMBERS = 32_000_000
"""Upper bound on N * L while encoding: 128 MB of float32."""
_SEQUENCES_AT_ONCE = 64
_MOST_FIRINGS = 16_000_000
"""Upper bound on the firings of a shard, about 0.8 GB while it is sorted; if latents fire densely, shards
have fewer tokens."""
_SEQUENCES_TRIED = 4


@dataclass(frozen=True)
class Firings:
    """Firings sorted by feature, then position."""

    features_E: np.ndarray
    positions_E: np.ndarray
    values_E: np.ndarray
    steps_E: np.ndarray | None = None
    """Step that selected the feature, if the dictionary selects in steps."""


@dataclass(frozen=True)
class CodeShard:
    """One shard on disk and its metadata without the firings."""

    path: Path
    first_sequence: int
    n_sequences: int
    context_length: int
    n_tokens: int
    n_nonfinite: int
    offsets_L: np.ndarray
    """Index of each feature's first firing; one more than there are features."""

    def firings(self, first_feature: int = 0, n_features: int | None = None) -> Firings:
        """Firings of a range of features, read from disk."""
        last = len(self.offsets_L) - 1 if n_features is None else first_feature + n_features
        last = min(last, len(self.offsets_L) - 1)
        begin, end = int(self.offsets_L[first_feature]), int(self.offsets_L[last])
        counts = np.diff(self.offsets_L[first_feature : last + 1])
        with safe_open(self.path, framework="np") as tensors:
            has_steps = "steps" in tensors.keys()  # noqa: SIM118
            if begin == end:  # safetensors refuses an empty slice at the end
                return _no_firings(has_steps)
            positions = tensors.get_slice("positions")[begin:end]
            values = tensors.get_slice("values")[begin:end]
            steps = tensors.get_slice("steps")[begin:end] if has_steps else None
        return Firings(
            np.repeat(np.arange(first_feature, last, dtype=np.int32), counts),
            positions.astype(np.int64) + self.first_sequence * self.context_length,
            values,
            steps,
        )

    @property
    def n_firings(self) -> int:
        """Firings of all features."""
        return int(self.offsets_L[-1])

    @property
    def first_position(self) -> int:
        """Position of the first token of the first sequence."""
        return self.first_sequence * self.context_length

    @property
    def end_position(self) -> int:
        """Position after the last."""
        return (self.first_sequence + self.n_sequences) * self.context_length


def _no_firings(has_steps: bool) -> Firings:
    whole = np.zeros(0, dtype=np.int32)
    values = np.zeros(0, dtype=np.float32)
    return Firings(whole, whole.astype(np.int64), values, whole if has_steps else None)


def encode_to_shards(
    dictionary: "Dictionary",
    activation_set: "ActivationSet",
    folder: Path,
    *,
    shard_tokens: int,
    max_nonfinite_share: float,
    listener: ProgressListener,
    rows_bytes: Callable[[CodeShard], int] | None = None,
) -> list[CodeShard]:
    """Encode all valid tokens of all sequences; keep shards that are already in ``folder``.

    ``rows_bytes`` gives the disk that further rows of a shard take; the forecast of the first shard adds it.

    Raises:
        UserError: when more than ``max_nonfinite_share`` of the tokens are NaN or infinite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_sequences, context_length = activation_set.n_sequences, activation_set.context_length
    step = _sequences_per_shard(dictionary, activation_set, shard_tokens)
    shards: list[CodeShard] = []
    starts = shard_starts(activation_set.tokens.parts, step)
    for number, (first, end) in enumerate(zip(starts, [*starts[1:], n_sequences], strict=True)):
        rows = np.arange(first, end)
        path = folder / f"{number:06d}.safetensors"
        shard = _read_shard(path, rows, context_length, dictionary.d_sae)
        if shard is None:
            _write_shard(path, rows, dictionary, activation_set)
            shard = _read_shard(path, rows, context_length, dictionary.d_sae)
        if shard is None:
            raise UserError(f"{path} cannot be read back after writing: check the disk and run again")
        shards.append(shard)
        if number == 0:
            further = rows_bytes(shard) if rows_bytes is not None else 0
            _check_space(path, len(starts), further)
        listener(Progress("sequences encoded", int(rows[-1]) + 1, n_sequences))
    _check_finite(shards, max_nonfinite_share)
    return shards


def _sequences_per_shard(dictionary: "Dictionary", activation_set: "ActivationSet", shard_tokens: int) -> int:
    """As many as hold ``shard_tokens``, fewer by the firings of the first ones: the same in every run."""
    rows = np.arange(min(_SEQUENCES_TRIED, activation_set.n_sequences))
    batches = activation_set.batches(rows, _SEQUENCES_TRIED)
    n_firings = sum(len(encode_batch(dictionary, x, valid).features_E) for _, x, valid in batches)
    most = int(_MOST_FIRINGS * len(rows) / max(n_firings, 1))
    return max(1, min(shard_tokens // activation_set.context_length, most))


def _check_space(first_shard: Path, n_shards: int, further: int) -> None:
    """Refuse early what cannot fit, by the first shard: its size, and that of its ``further`` rows."""
    n_missing = n_shards - sum(1 for _ in first_shard.parent.glob("*.safetensors"))
    free = shutil.disk_usage(first_shard.parent).free
    need = n_missing * first_shard.stat().st_size + n_shards * further
    if need > free:
        raise UserError(
            f"mining needs about {need / 1e9:.1f} GB more in {first_shard.parent}, {free / 1e9:.1f} GB are "
            "free: make room, or mine fewer tokens"
        )


def _check_finite(shards: list[CodeShard], max_nonfinite_share: float) -> None:
    n_nonfinite = sum(shard.n_nonfinite for shard in shards)
    n_tokens = sum(shard.n_tokens for shard in shards)
    if n_nonfinite > max_nonfinite_share * (n_tokens + n_nonfinite):
        raise UserError(
            f"{n_nonfinite} of {n_tokens + n_nonfinite} tokens have NaN or infinite activations or codes, "
            f"more than {max_nonfinite_share:.2%}: cache the activations again with dtype float32 and "
            "check the dictionary's weights"
        )


def _write_shard(
    path: Path, rows: np.ndarray, dictionary: "Dictionary", activation_set: "ActivationSet"
) -> None:
    context_length = activation_set.context_length
    n_tokens = n_nonfinite = 0
    features, positions, values, steps = [], [], [], []
    for batch_rows, x_BTD, valid_BT in activation_set.batches(rows, _SEQUENCES_AT_ONCE):
        encoded = encode_batch(dictionary, x_BTD, valid_BT)
        n_tokens += encoded.n_tokens
        n_nonfinite += encoded.n_nonfinite
        features.append(encoded.features_E)
        positions.append((int(batch_rows[0]) - int(rows[0])) * context_length + encoded.positions_E)
        values.append(encoded.values_E)
        if encoded.steps_E is not None:
            steps.append(encoded.steps_E)
    features_E = np.concatenate(features)
    order = np.argsort(_narrow(features_E, dictionary.d_sae), kind="stable")
    counts = np.bincount(features_E, minlength=dictionary.d_sae)
    tensors = {
        "positions": np.concatenate(positions)[order].astype(np.int32),
        "values": np.concatenate(values)[order],
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    }
    if steps:
        tensors["steps"] = np.concatenate(steps)[order]
    facts = {"first": int(rows[0]), "n": len(rows), "n_tokens": n_tokens, "n_nonfinite": n_nonfinite}
    _save(path, tensors, facts)


@dataclass(frozen=True)
class EncodedBatch:
    """Firings of a batch in reading order; positions count from the first token of the batch."""

    features_E: np.ndarray
    positions_E: np.ndarray
    values_E: np.ndarray
    n_tokens: int
    n_nonfinite: int
    steps_E: np.ndarray | None = None


def encode_batch(dictionary: "Dictionary", x_BTD: np.ndarray, valid_BT: np.ndarray) -> EncodedBatch:
    """Encode the valid tokens of consecutive sequences; tokens that are not finite are left out."""
    position_N = np.flatnonzero(valid_BT)
    x_ND = np.ascontiguousarray(x_BTD.reshape(-1, x_BTD.shape[-1])[position_N])
    step = max(1, _DENSE_NUMBERS // dictionary.d_sae)
    slices = [slice(begin, begin + step) for begin in range(0, len(position_N), step)]
    parts = [_encode_tokens(dictionary, x_ND[part], position_N[part]) for part in slices or [slice(0)]]
    columns = zip(*((part.features_E, part.positions_E, part.values_E) for part in parts), strict=True)
    features_E, positions_E, values_E = (np.concatenate(column) for column in columns)
    n_tokens = sum(part.n_tokens for part in parts)
    steps = [part.steps_E for part in parts if part.steps_E is not None]
    steps_E = np.concatenate(steps) if steps else None
    return EncodedBatch(features_E, positions_E, values_E, n_tokens, len(position_N) - n_tokens, steps_E)


def _encode_tokens(dictionary: "Dictionary", x_ND: np.ndarray, position_N: np.ndarray) -> EncodedBatch:
    with torch.inference_mode():
        tokens_ND = torch.from_numpy(x_ND).to(device=dictionary.W_enc.device, dtype=torch.float32)
        finite_N = tokens_ND.sum(dim=1).isfinite()  # any NaN or infinite number makes the sum one
        if not finite_N.all():
            tokens_ND = tokens_ND[finite_N]
        steps_NK = None
        if dictionary.selects_in_steps:
            values_NK, indices_NK, steps_NK = dictionary.encode_steps(tokens_ND)
        else:
            values_NK, indices_NK = dictionary.encode_sparse(tokens_ND)
        finite_M = values_NK.sum(dim=1).isfinite()
        fires_NK = (values_NK > 0) & finite_M[:, None]
        row_E = fires_NK.nonzero()[:, 0].cpu().numpy()
        features_E = indices_NK[fires_NK].to(torch.int32).cpu().numpy()
        values_E = values_NK[fires_NK].float().cpu().numpy()
        steps_E = None if steps_NK is None else steps_NK[fires_NK].to(torch.int32).cpu().numpy()
        n_tokens = int(finite_M.sum())
    position_E = position_N[finite_N.cpu().numpy()][row_E]
    return EncodedBatch(features_E, position_E, values_E, n_tokens, len(position_N) - n_tokens, steps_E)


def _narrow(features_E: np.ndarray, d_sae: int) -> np.ndarray:
    """16-bit if they fit: numpy's stable sort is then a radix sort, several times faster."""
    return features_E.astype(np.uint16) if d_sae <= 1 << 16 else features_E


def _save(path: Path, tensors: dict[str, np.ndarray], facts: dict[str, int]) -> None:
    fault_point("mining.shard")
    unfinished = temporary_beside(path)
    try:
        save_file(tensors, unfinished, metadata={"format": _FORMAT, "facts": json.dumps(facts)})
        flush_file(unfinished)
        unfinished.replace(path)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        n_bytes = sum(tensor.nbytes for tensor in tensors.values())
        raise UserError(
            f"cannot write {n_bytes:,} bytes to {path}: {error}; make room or fix the permissions, "
            "finished shards are kept for the next run"
        ) from error
    flush_folder(path.parent)


def _read_shard(path: Path, rows: np.ndarray, context_length: int, d_sae: int) -> CodeShard | None:
    """The shard, or None if there is none, it is damaged, or it holds something else."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as tensors:
            metadata = tensors.metadata() or {}
            if metadata.get("format") != _FORMAT:
                return None
            offsets = tensors.get_tensor("offsets")
            facts = json.loads(metadata["facts"])
            first, n, n_tokens, n_nonfinite = (facts[name] for name in _FACTS)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return None
    if (first, n, len(offsets)) != (int(rows[0]), len(rows), d_sae + 1):
        return None
    return CodeShard(path, first, n, context_length, n_tokens, n_nonfinite, offsets)
