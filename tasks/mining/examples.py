"""The rows of ``examples``, feature block by feature block.

Shapes: W contexts, C tokens per context, E firings.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from catalog.schemas import FEATURES_PER_BLOCK, TABLES
from tasks.common.progress import Progress, ProgressListener, track
from tasks.mining.bands import BANDS, Contexts, band_contexts, join, top_contexts
from tasks.mining.codes import CodeShard
from tasks.mining.config import MiningConfig
from tasks.mining.controls import keep_silent, propose_controls
from tasks.mining.lookups import firings_in
from tasks.mining.selection import rank_in_group
from tasks.mining.special import SpecialTokens
from tasks.mining.split import SPLITS
from tasks.mining.survey import Survey
from tasks.mining.texts import cut_tokens, list_offsets
from tasks.mining.windows import Windows, windows_around

if TYPE_CHECKING:
    from tasks.activations.text.packing import PackedTokens

_LEFT_TO_CALLER = ("dictionary_id", "activation_set_id", "dictionary_slug", "fingerprint", "slice", "subject")

EXAMPLES_SCHEMA = pa.schema(
    [field for field in TABLES["examples"].schema.remove_metadata() if field.name not in _LEFT_TO_CALLER]
)


class ExampleMiner:
    """Cuts the contexts that the survey chose; ``batches`` may be read once or again."""

    def __init__(
        self,
        shards: Sequence[CodeShard],
        tokens: "PackedTokens",
        documents: pa.Table,
        survey: Survey,
        nearest_Ln: np.ndarray,
        special: SpecialTokens,
        config: MiningConfig,
        listener: ProgressListener,
    ) -> None:
        self.shards, self.tokens, self.documents = shards, tokens, documents
        self.survey, self.nearest_Ln = survey, nearest_Ln
        self.special, self.config, self.listener = special, config, listener

    def batches(self) -> Iterator[pa.RecordBatch]:
        """One batch per block of features, sorted by feature, band and rank."""
        n_features = len(self.survey.statistics.n_tokens_L)
        for first in range(0, n_features, FEATURES_PER_BLOCK):
            n_block = min(FEATURES_PER_BLOCK, n_features - first)
            batch = self._block(first, n_block)
            if batch.num_rows:
                yield batch
            self.listener(Progress("features mined", first + n_block, n_features))

    def _block(self, first: int, n_features: int) -> pa.RecordBatch:
        top = top_contexts(self.survey, first, n_features, self.config)
        active = join([top, band_contexts(self.survey, top, first, n_features, self.config)])
        proposed = propose_controls(self.survey, self.nearest_Ln, first, n_features, self.config)
        contexts = join([active, proposed])
        windows = windows_around(
            self.tokens,
            contexts.position_W,
            chunk_tokens=self.config.chunk_tokens,
            window=self.config.window_tokens,
            before=self.config.tokens_before_peak,
        )
        activations_WC = self._activations(contexts, windows, first, n_features)
        n_active = len(active.feature_W)
        silent_W: np.ndarray = activations_WC[n_active:].max(axis=1, initial=0) == 0
        controls = n_active + keep_silent(proposed, windows.chunk_W[n_active:], silent_W, self.config)
        kept = np.concatenate([np.arange(n_active), controls])
        order = np.lexsort((contexts.key_W[kept], contexts.band_W[kept], contexts.feature_W[kept]))
        kept = kept[order]
        chosen = Windows(windows.chunk_W[kept], windows.start_W[kept], windows.length_W[kept])
        return self._rows(contexts.take(kept), chosen, activations_WC[kept])

    def _activations(self, contexts: Contexts, windows: Windows, first: int, n_features: int) -> np.ndarray:
        """Activation of each context's feature on each of its tokens: (W, C) float32."""
        result_WC = np.zeros((len(contexts.feature_W), self.config.window_tokens), dtype=np.float32)
        order = np.argsort(windows.start_W, kind="stable")
        starts = windows.start_W[order]
        what = f"shards read for the contexts of features {first:,} to {first + n_features - 1:,}"
        for shard in track(self.shards, what, self.listener):
            begin, end = np.searchsorted(starts, [shard.first_position, shard.end_position])
            rows = order[begin:end]
            if len(rows) == 0:
                continue
            row_F, position_F, value_F = firings_in(
                shard, contexts.feature_W[rows], windows.start_W[rows], windows.length_W[rows]
            )
            result_WC[rows[row_F], position_F - windows.start_W[rows[row_F]]] = value_F
        return result_WC

    def _rows(self, contexts: Contexts, windows: Windows, activations_WC: np.ndarray) -> pa.RecordBatch:
        context_length = self.tokens.segment.shape[1]
        inside_WC = np.arange(self.config.window_tokens) < windows.length_W[:, None]
        last_W = windows.start_W + np.maximum(windows.length_W - 1, 0)
        position_WC = np.minimum(
            windows.start_W[:, None] + np.arange(self.config.window_tokens), last_W[:, None]
        )
        start_WC = np.where(inside_WC, _pick(self.tokens.char_start, position_WC), 0)
        end_WC = np.where(inside_WC, _pick(self.tokens.char_end, position_WC), 0)
        document_W = _pick(self.tokens.document_index, contexts.position_W)
        cut = cut_tokens(self.documents["text"], document_W, start_WC, end_WC)
        offsets = list_offsets(windows.length_W)
        token_ids = _pick(self.tokens.token_ids, position_WC)[inside_WC]
        document_ids = self.documents["document_id"].take(pa.array(document_W)).combine_chunks()
        band_W, feature_W = contexts.band_W, contexts.feature_W
        columns = {
            "feature_index": pa.array(feature_W, pa.int32()),
            "feature_block": pa.array(feature_W // FEATURES_PER_BLOCK, pa.int32()),
            "band": pa.array(BANDS).take(pa.array(band_W)),
            "rank": pa.array(rank_in_group(feature_W * len(BANDS) + band_W), pa.int32()),
            "sequence_index": pa.array(windows.start_W // context_length, pa.int32()),
            "token_start": pa.array(windows.start_W % context_length, pa.int32()),
            "document_id": document_ids.cast(pa.string()),
            "char_start": pa.array(cut.char_start_W, pa.int32()),
            "char_end": pa.array(cut.char_end_W, pa.int32()),
            "token_ids": pa.ListArray.from_arrays(offsets, pa.array(token_ids, pa.int32())),
            "tokens": cut.to_arrow(windows.length_W),
            "activations": pa.ListArray.from_arrays(offsets, pa.array(activations_WC[inside_WC])),
            "peak_position": pa.array(contexts.position_W - windows.start_W, pa.int32()),
            "max_activation": pa.array(activations_WC.max(axis=1, initial=0)),
            "is_special": pa.ListArray.from_arrays(
                offsets,
                pa.array(self.special.flags(token_ids, start_WC[inside_WC], end_WC[inside_WC]), pa.bool_()),
            ),
            "text_before": pa.array(self.special.text_before(windows.start_W), pa.int32()),
            "split": pa.array(SPLITS).take(pa.array(contexts.split_W)),
        }
        return pa.RecordBatch.from_arrays(
            [columns[name] for name in EXAMPLES_SCHEMA.names], schema=EXAMPLES_SCHEMA
        )


def _pick(values_BT: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Values of a (B, T) array at positions, read page by page where it is memory-mapped."""
    return np.asarray(values_BT).reshape(-1)[positions]  # type: ignore[no-any-return]
