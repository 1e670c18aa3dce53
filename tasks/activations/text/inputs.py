"""The inputs of the model's forward pass: ids, masks that separate documents, positions that restart.

Shapes: B sequences, T context.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.packing import PADDING, PackedTokens


def model_inputs(
    language_model: LanguageModel, packed: PackedTokens, rows: npt.NDArray[np.integer[Any]] | slice
) -> dict[str, Any]:
    """Keyword arguments for ``language_model.model`` on the sequences ``rows``.

    If no sequence holds more than one segment, a causal model needs no mask (padding is at the end) and an
    encoder a padding mask ``(B, T)``. Otherwise the mask is ``(B, 1, T, T)``: block-diagonal, causal for
    causal models, limited to the window in layers with sliding attention.

    Raises:
        UserError: for several documents in a sequence and a model type that is not in the table.
    """
    segment_BT = np.array(packed.segment[rows])  # torch needs writable memory
    device = language_model.device
    token_ids = torch.from_numpy(np.asarray(packed.token_ids[rows]).astype(np.int64)).to(device)
    inputs: dict[str, Any] = {"input_ids": token_ids, "use_cache": False}
    spec = language_model.spec
    if not spec.is_causal:
        del inputs["use_cache"]
    is_single = int(segment_BT.max(initial=0)) == 0
    if is_single and spec.is_causal:
        return inputs
    layout = language_model.layout
    if is_single:
        inputs["attention_mask"] = torch.from_numpy((segment_BT != PADDING).astype(np.int64)).to(device)
    if layout is None:
        if is_single:
            return inputs
        raise UserError(
            f"model type {spec.architecture!r} is not in the table of hookpoints, so documents cannot be "
            "kept apart within a sequence: set packing: per_document"
        )
    offset = language_model.model.config.pad_token_id + 1 if layout.positions_after_padding else 0
    inputs["position_ids"] = torch.from_numpy(positions(segment_BT) + offset).to(device)
    if not is_single:
        inputs["attention_mask"] = _masks(language_model, torch.from_numpy(segment_BT).to(device))
    return inputs


def positions(segment_BT: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Positions ``(B, T)`` that restart at 0 with every segment."""
    index_T = np.arange(segment_BT.shape[1])
    begins_BT = np.ones(segment_BT.shape, np.bool_)
    begins_BT[:, 1:] = segment_BT[:, 1:] != segment_BT[:, :-1]
    return np.asarray(index_T - np.maximum.accumulate(np.where(begins_BT, index_T, 0), axis=1))


def _masks(language_model: LanguageModel, segment_BT: Tensor) -> Tensor | dict[str, Tensor]:
    config = language_model.model.config
    layout = language_model.layout
    is_causal = language_model.spec.is_causal
    window = getattr(config, "sliding_window", None)
    if layout is None or not layout.masks_by_layer_type:
        return _as_wanted(language_model, _allowed(segment_BT, is_causal, window))
    windows = {"full_attention": None, "sliding_attention": window}
    return {
        layer_type: _as_wanted(language_model, _allowed(segment_BT, is_causal, windows[layer_type]))
        for layer_type in sorted(set(config.layer_types))
    }


def _allowed(segment_BT: Tensor, is_causal: bool, window: int | None) -> Tensor:
    """Which token may attend to which: boolean ``(B, 1, T query, T key)``; padding attends to padding."""
    same = segment_BT[:, :, None] == segment_BT[:, None, :]
    index_T = torch.arange(segment_BT.shape[1], device=segment_BT.device)
    back = index_T[:, None] - index_T[None, :]
    if is_causal:
        same &= back >= 0
    if window is not None:
        same &= back < window
    return same[:, None]


def _as_wanted(language_model: LanguageModel, allowed: Tensor) -> Tensor:
    """Boolean for fused attention; for the plain implementation the term that is added to the scores."""
    if language_model.model.config._attn_implementation == "sdpa":
        return allowed
    added = torch.zeros(allowed.shape, dtype=language_model.model.dtype, device=allowed.device)
    return added.masked_fill_(~allowed, torch.finfo(language_model.model.dtype).min)
