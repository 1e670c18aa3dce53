"""The evidence for an explanation: a feature's statistics and mined contexts, read from Arrow.

Explaining uses the ``explain`` half of the contexts, scoring the ``score`` half; the halves come from
disjoint documents.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import UserError
from catalog.schemas import NEIGHBOUR_BAND, RANDOM_BAND, SILENT_BANDS, ExampleSplit, firing_bands
from tasks.autointerp.lexicon.vocabulary import Bools, Codes, Vocabulary
from tasks.autointerp.lexicon.windows import NO_LABELS, Windows, build_windows

Labels = Mapping[str, Mapping[str, str]]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Example:
    """One context in plain values: token texts, the activation on each, and its source."""

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak_position: int
    max_activation: float
    band: str
    rank: int
    split: str
    document_id: str
    labels: Mapping[str, str]
    is_special: tuple[bool, ...]

    @property
    def text(self) -> str:
        """The tokens joined: the text as in the document."""
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class FeatureEvidence:
    """A feature that fires, with its contexts (W of them) in columns."""

    feature_index: int
    max_activation: float
    density: float
    windows: Windows
    band_W: npt.NDArray[Any]
    rank_W: npt.NDArray[np.int32]
    split_W: npt.NDArray[Any]

    @property
    def firing_bands(self) -> tuple[str, ...]:
        """The bands of its firing contexts, strongest first: as many as mining divided them into."""
        return firing_bands(self.band_W)

    def rows(self, split: ExampleSplit, bands: tuple[str, ...]) -> Rows:
        """The contexts of a split and bands, in the order of ``bands`` and rank."""
        wanted: Bools = self.split_W == split
        chosen = [np.flatnonzero(wanted & (self.band_W == band)) for band in bands]
        return np.concatenate(chosen) if chosen else np.empty(0, np.intp)

    def contrasted(self) -> tuple[Windows, npt.NDArray[np.intp]]:
        """Contexts of the ``explain`` half, and the group of each (W,): 0 fires, 1 random, 2 neighbour."""
        kinds = (self.firing_bands, (RANDOM_BAND,), (NEIGHBOUR_BAND,))
        groups = [self.rows("explain", bands) for bands in kinds]
        group_W = np.repeat(np.arange(len(groups)), [len(rows) for rows in groups])
        return self.windows.take(np.concatenate(groups)), group_W

    def example(self, row: int) -> Example:
        """One context in plain values."""
        activations = self.windows.activations(row)
        return Example(
            self.windows.tokens(row),
            tuple(activations.tolist()),
            int(self.windows.peak_W[row]),
            float(activations.max(initial=0.0)),
            str(self.band_W[row]),
            int(self.rank_W[row]),
            str(self.split_W[row]),
            str(self.windows.document_W[row]),
            self.windows.labels_of(row),
            self.windows.special(row),
        )

    def digest(self, split: ExampleSplit) -> str:
        """SHA-256 over the contexts of a split: text, band, rank, document and peak."""
        digest = hashlib.sha256()
        for row in self.rows(split, (*self.firing_bands, *SILENT_BANDS)):
            key = (self.band_W[row], self.rank_W[row], self.windows.document_W[row], self.windows.peak_W[row])
            digest.update("\x1f".join((*map(str, key), *self.windows.tokens(int(row)))).encode())
            digest.update(b"\x1e")
        return digest.hexdigest()


def read_evidence(
    features: pa.Table,
    blocks: Iterable[pa.Table],
    labels: Labels = NO_LABELS,  # type: ignore[assignment]
) -> Iterator[FeatureEvidence]:
    """Evidence of every feature that fires, in order of its index within each block.

    Args:
        features: Rows of the ``features`` table of one dictionary on one activation set.
        blocks: Rows of its ``examples`` table in pieces, each with whole features, for example the
            files of one ``feature_block``; only one piece is held at a time.
        labels: Label columns of each document by ``document_id``.

    Raises:
        UserError: when a feature is spread over two blocks.
    """
    firing = _firing(features)
    seen: set[int] = set()
    for block in blocks:
        for evidence in _block_evidence(block, firing, labels):
            if evidence.feature_index in seen:
                raise UserError(
                    f"examples of feature {evidence.feature_index} come in two blocks: "
                    "hand in whole features, for example one feature_block at a time"
                )
            seen.add(evidence.feature_index)
            yield evidence
    without = sorted(set(firing) - seen)
    if without:
        empty = _windows(pa.table({}), labels)
        none = np.empty(0, object)
        for index in without:
            yield FeatureEvidence(index, *firing[index], empty, none, np.empty(0, np.int32), none)


def n_firing(features: pa.Table) -> int:
    """The number of features in the table that fire."""
    return len(_firing(features))


def _firing(features: pa.Table) -> dict[int, tuple[float, float]]:
    """Largest activation and density of every feature that fires."""
    kept = features.select(["feature_index", "status", "max_activation", "density"]).to_pylist()
    return {
        row["feature_index"]: (float(row["max_activation"] or 0.0), float(row["density"]))
        for row in kept
        if row["status"] != "unseen"
    }


def _block_evidence(
    block: pa.Table, firing: Mapping[int, tuple[float, float]], labels: Labels
) -> Iterator[FeatureEvidence]:
    if block.num_rows == 0:
        return
    order = [("feature_index", "ascending"), ("band", "ascending"), ("rank", "ascending")]
    block = block.take(pc.sort_indices(block, sort_keys=order))
    windows = _windows(block, labels)
    band_W = np.asarray(block["band"].to_pylist(), object)
    rank_W = block["rank"].to_numpy().astype(np.int32)
    split_W = np.asarray(block["split"].to_pylist(), object)
    index_W = block["feature_index"].to_numpy()
    starts = np.flatnonzero(np.diff(index_W, prepend=index_W[0] - 1))
    for start, stop in zip(starts, [*starts[1:], len(index_W)], strict=True):
        index, rows = int(index_W[start]), slice(int(start), int(stop))
        if index in firing:
            yield FeatureEvidence(
                index, *firing[index], windows.take(rows), band_W[rows], rank_W[rows], split_W[rows]
            )


def _windows(block: pa.Table, labels: Labels) -> Windows:
    """Windows of all rows of an ``examples`` table."""
    if block.num_rows == 0:
        none = np.empty(0, np.int32)
        return build_windows(
            Vocabulary(()),
            none,
            np.empty(0, np.float32),
            none,
            peak_W=none,
            document_start_W=np.empty(0, bool),
            text_before_W=none,
            document_W=np.empty(0, object),
            labels=labels,
        )
    tokens = block["tokens"].combine_chunks()
    encoded = tokens.flatten().dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    length_W = tokens.value_lengths().to_numpy()
    codes, special = encoded.indices.to_numpy(), _special_tokens(block, length_W)
    special_codes, special_index = np.unique(codes[special], return_inverse=True)
    entry = codes + 1
    entry[special] = len(texts) + 1 + special_index
    return build_windows(
        Vocabulary(texts, [texts[code] for code in special_codes]),
        entry,
        block["activations"].combine_chunks().flatten().to_numpy(),
        length_W,
        peak_W=block["peak_position"].to_numpy(),
        document_start_W=block["char_start"].to_numpy() == 0,
        text_before_W=_text_before(block, special[np.cumsum(length_W) - length_W]),
        document_W=np.asarray(block["document_id"].to_pylist(), object),
        labels=labels,
    )


def _special_tokens(block: pa.Table, length_W: Codes) -> Bools:
    """Which tokens of all contexts are special. Rows of the first version do not distinguish them from text,
    except at the start of a context, where a token without text cannot be the rest of a character."""
    if "is_special" in block.column_names and block["is_special"].null_count == 0:
        flags: Bools = np.asarray(block["is_special"].combine_chunks().flatten())
        return flags
    empty = np.asarray(pc.equal(pc.utf8_length(block["tokens"].combine_chunks().flatten()), 0))
    first = np.cumsum(length_W) - length_W
    n_filled = np.concatenate([[0], np.cumsum(~empty)])
    leading: Bools = empty & (n_filled[:-1] == np.repeat(n_filled[first], length_W))
    return leading


def _text_before(block: pa.Table, begins_special_W: Bools) -> Codes:
    """Tokens read before each context; for rows of the first version since the last special token, or since
    the start of the sequence."""
    if "text_before" in block.column_names and block["text_before"].null_count == 0:
        return np.asarray(block["text_before"], np.int32)
    return np.where(begins_special_W, 0, np.asarray(block["token_start"], np.int32)).astype(np.int32)
