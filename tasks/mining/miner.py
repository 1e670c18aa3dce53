"""Mining: examples and statistics of every feature, from one encoding of an activation set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from catalog.errors import UserError
from tasks.common.progress import ProgressListener, silent
from tasks.mining.codes import CodeShard, encode_to_shards
from tasks.mining.config import MiningConfig
from tasks.mining.document_firings import EarlierRows, document_firings, expected_bytes
from tasks.mining.earlier_pass import (
    CODES,
    Continued,
    EarlierPass,
    described,
    find_earlier,
    keep_pass,
)
from tasks.mining.examples import ExampleMiner
from tasks.mining.features import FEATURES_SCHEMA, feature_rows, top_tokens
from tasks.mining.logits import LogitEffects, Unembedding, logit_effects
from tasks.mining.method_columns import method_columns, typed_columns
from tasks.mining.nearest import interleave, nearest_by_decoder
from tasks.mining.neighbours import nearest_cosine_of_random, neighbour_rows
from tasks.mining.special import SpecialTokens
from tasks.mining.split import split_codes
from tasks.mining.survey import Survey, survey

if TYPE_CHECKING:
    from tasks.activations.reading.shards import ActivationSet
    from tasks.dictionaries.base import Dictionary


@dataclass(frozen=True)
class Mined:
    """The rows of four tables, ids of dictionary and activation set left out."""

    features: pa.Table
    neighbours: pa.Table
    """Rows of ``feature_neighbours``."""
    examples: Iterator[pa.RecordBatch]
    """Sorted by feature, band and rank; cut while they are read, from files in the scratch folder."""
    by_document: Iterator[pa.RecordBatch]
    """Rows of ``document_firings`` by feature and document, summed while they are read; none if not kept."""
    n_tokens: int
    """Tokens mined: the valid ones with finite activations, of both document splits."""
    n_nonfinite: int
    """Tokens left out because of NaN or infinite numbers."""
    kept: Path | None = None
    """Folder from which a pass over the set with more documents goes on, if that was asked for."""

    @property
    def counts(self) -> dict[str, int]:
        """Features, those that fired, and tokens left out."""
        return {
            "n_features": self.features.num_rows,
            "n_alive": self.n_alive,
            "n_nonfinite": self.n_nonfinite,
        }

    @property
    def n_alive(self) -> int:
        """Features that fired at least once."""
        return int(pc.sum(pc.greater(self.features["n_tokens"], 0)).as_py() or 0)


def mine(
    dictionary: "Dictionary",
    activation_set: "ActivationSet",
    documents: pa.Table,
    unembedding: Unembedding | None,
    config: MiningConfig,
    scratch: Path,
    listener: ProgressListener = silent,
    extra_columns: Mapping[str, Sequence[Any]] | None = None,
    continued: Continued | None = None,
) -> Mined:
    """Mine all valid tokens of an activation set, of train and eval documents.

    Args:
        documents: ``document_id`` and ``text`` in the row order of the set's ``document_index``.
        unembedding: The map to logits; None, or one of another width, gives no logits.
        scratch: Folder of the encoded shards; an interrupted run continues from them.
        extra_columns: Further columns of ``features`` measured by the caller, one value per feature.
        continued: For a set that grows; the result is the same as without it.

    Raises:
        UserError: for a dictionary of another width, documents that do not belong to the set, or more
            non-finite tokens than ``config.max_nonfinite_share``.
    """
    tokens, special = activation_set.tokens, _special_tokens(activation_set)
    shards, found, kept, known = _pass(
        dictionary, activation_set, documents, config, scratch, listener, continued
    )
    by_decoder = nearest_by_decoder(dictionary.W_dec.detach().float(), config.n_nearest)
    by_coactivation = found.coactivation.nearest(config.n_nearest)
    features = feature_rows(
        dictionary,
        found,
        by_decoder,
        by_coactivation,
        _effects(dictionary.last_written.detach().float(), unembedding, config),
        None if unembedding is None else pa.array(unembedding.tokens, pa.string()),
        top_tokens(found, tokens, documents, config),
        method_columns(dictionary, found, bool(special), FEATURES_SCHEMA)
        | typed_columns(extra_columns or {}, FEATURES_SCHEMA),
        config,
    )
    nearest_Ln = interleave([by_decoder.features_Ln, by_coactivation.features_Ln])
    examples = ExampleMiner(
        shards, tokens, documents, found, nearest_Ln, SpecialTokens(tokens, special), config, listener
    )
    null = nearest_cosine_of_random(dictionary, activation_set, config.seed)
    neighbours = neighbour_rows(dictionary, by_decoder, by_coactivation, found, null)
    by_document = document_firings(shards, tokens, documents, found.statistics.max_L, config, listener, known)
    return Mined(features, neighbours, examples.batches(), by_document, *_n_tokens(found, shards), kept)


def _pass(
    dictionary: "Dictionary",
    activation_set: "ActivationSet",
    documents: pa.Table,
    config: MiningConfig,
    scratch: Path,
    listener: ProgressListener,
    continued: Continued | None,
) -> tuple[list[CodeShard], Survey, Path | None, EarlierRows | None]:
    """Codes, what a reading of them leaves behind, the folder for a later pass, rows of an earlier one."""
    _check(dictionary, activation_set, documents)
    special = _special_tokens(activation_set)
    earlier: EarlierPass | None = None
    settings: dict[str, Any] = {}
    if continued is not None:
        settings = continued.settings(config.canonical(), special)
        earlier = find_earlier(continued.folders, activation_set, documents, settings)
    if earlier is not None:
        earlier.share_codes(scratch / CODES)
    shards = _encode(dictionary, activation_set, scratch, config, listener)
    splits = split_codes(documents["document_id"].to_pylist(), config.explain_share)
    found = survey(
        shards, activation_set.tokens, splits, dictionary.d_sae, config, listener, special, earlier
    )
    if continued is None:
        return shards, found, None, None
    n = activation_set.n_sequences
    about = described(activation_set, documents, settings, n)
    assert about is not None
    keep_pass(scratch / "kept", found, shards, about, n, earlier)
    rows = None if earlier is None else continued.firings(earlier.folder)
    known = None if earlier is None or rows is None else EarlierRows(earlier.n_sequences, rows)
    return shards, found, scratch / "kept", known


def _encode(
    dictionary: "Dictionary",
    activation_set: "ActivationSet",
    scratch: Path,
    config: MiningConfig,
    listener: ProgressListener,
) -> list[CodeShard]:
    keeps = config.document_firings.keep
    return encode_to_shards(
        dictionary,
        activation_set,
        scratch / CODES,
        shard_tokens=config.shard_tokens,
        max_nonfinite_share=config.max_nonfinite_share,
        listener=listener,
        rows_bytes=partial(expected_bytes, tokens=activation_set.tokens) if keeps else None,
    )


def _special_tokens(activation_set: "ActivationSet") -> tuple[int, ...]:
    return tuple(activation_set.meta.get("special_token_ids") or ())


def _n_tokens(found: Survey, shards: Sequence[CodeShard]) -> tuple[int, int]:
    """Tokens mined, and tokens left out."""
    return found.n_tokens, sum(shard.n_nonfinite for shard in shards)


def _effects(
    w_dec_LD: torch.Tensor, unembedding: Unembedding | None, config: MiningConfig
) -> LogitEffects | None:
    if unembedding is None or unembedding.W_U.shape[0] != w_dec_LD.shape[1]:
        return None
    with torch.inference_mode():
        return logit_effects(w_dec_LD, unembedding, config.n_logits, config.seed)


def _check(dictionary: "Dictionary", activation_set: "ActivationSet", documents: pa.Table) -> None:
    if dictionary.input_width != activation_set.d_in:
        raise UserError(
            f"the dictionary reads activations of width {dictionary.input_width}, those of "
            f"{activation_set.hookpoint} have {activation_set.d_in}: mine on the hookpoint it was trained on"
        )
    last = max((int(row.max()) for row in _rows(activation_set)), default=-1)
    if last >= documents.num_rows:
        raise UserError(
            f"the activation set names document {last} but only {documents.num_rows} documents were given: "
            "pass the corpus it was cached from"
        )


def _rows(activation_set: "ActivationSet") -> Iterator["pa.Array"]:
    index = activation_set.tokens.document_index
    return (index[first : first + 4096] for first in range(0, len(index), 4096))
