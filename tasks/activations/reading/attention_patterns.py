"""The parts of attention: patterns and values, whose products are the hookpoint ``attn_z``.

Shapes: B sequences, T context (query), S context (source), H heads, G key-value heads, d head width.

``z[t, h] = sum_s pattern[h, t, s] * value[s, g(h)]``; with grouped queries, H / G neighbouring heads share
the values of one key-value head.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import Hookpoint
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PackedTokens

Packed = Literal["alone", "last_third", "interleaved"]


class _Layout(NamedTuple):
    """The path of the attention in a block, and how the projection of the values is stored."""

    attention: str
    values: str
    packed: Packed = "alone"


_LLAMA = _Layout("self_attn", "self_attn.v_proj")
_BERT = _Layout("attention.self", "attention.self.value")
_LAYOUTS: dict[str, _Layout] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), _LLAMA),
    "gpt2": _Layout("attn", "attn.c_attn", "last_third"),
    "gpt_neox": _Layout("attention", "attention.query_key_value", "interleaved"),
    **dict.fromkeys(("bert", "roberta"), _BERT),
    "distilbert": _Layout("attention", "attention.v_lin"),
}


@dataclass(frozen=True, slots=True)
class AttentionParts:
    """One block's attention on some sequences, float32."""

    patterns_BHTS: Tensor
    values_BSGd: Tensor

    @property
    def z(self) -> Tensor:
        """The outputs of the heads, concatenated, before the output projection: (B, T, H d)."""
        n_heads, n_groups = self.patterns_BHTS.shape[1], self.values_BSGd.shape[2]
        values_BSHd = self.values_BSGd.repeat_interleave(n_heads // n_groups, dim=2)
        return torch.einsum("bhts,bshd->bthd", self.patterns_BHTS, values_BSHd).flatten(2)


def attention_block(hookpoint: str) -> int | None:
    """The block of a hookpoint ``blocks.I.attn_z``; None for any other."""
    found = Hookpoint.in_block(hookpoint)
    return found.layer if found is not None and found.name == "attn_z" else None


def n_attention_heads(language_model: LanguageModel) -> int:
    """Heads (of queries) in a block."""
    return int(language_model.model.config.num_attention_heads)


@torch.no_grad()
def attention_parts(
    language_model: LanguageModel, block: int, packed: PackedTokens, rows: npt.NDArray[np.integer[Any]]
) -> AttentionParts:
    """Run sequences through the model with plain attention and return what one block computes.

    Raises:
        UserError: for a model type that is not in the table, or one whose attention returns no pattern.
    """
    layout = _LAYOUTS.get(language_model.spec.architecture)
    if layout is None or language_model.layout is None:
        raise UserError(
            f"model type {language_model.spec.architecture!r}: the location of its values is unknown; known: "
            f"{', '.join(sorted(_LAYOUTS))}"
        )
    base = language_model.model.base_model
    path = f"{language_model.layout.blocks}.{block}"
    kept: dict[str, Any] = {}

    def keep_pattern(_module: Any, _args: Any, output: Any) -> None:
        kept["pattern"] = output[1] if isinstance(output, tuple) and len(output) > 1 else None

    def keep_values(_module: Any, _args: Any, output: Any) -> None:
        kept["values"] = output

    with _plain_attention(language_model), ExitStack() as hooks:
        for name, keep in ((layout.attention, keep_pattern), (layout.values, keep_values)):
            module = base.get_submodule(f"{path}.{name}")
            hooks.callback(module.register_forward_hook(keep).remove)
        base(**model_inputs(language_model, packed, rows))
    if not isinstance(kept["pattern"], Tensor):
        raise UserError(
            f"the attention of model type {language_model.spec.architecture!r} returns no pattern"
        )
    patterns_BHTS = kept["pattern"].float()
    return AttentionParts(patterns_BHTS, _by_head(kept["values"].float(), patterns_BHTS, layout, base.config))


def _by_head(projected_BSX: Tensor, patterns_BHTS: Tensor, layout: _Layout, config: Any) -> Tensor:
    """Only the values, one row per key-value head: (B, S, G, d)."""
    n_heads = patterns_BHTS.shape[1]
    if layout.packed == "last_third":
        projected_BSX = projected_BSX.chunk(3, dim=2)[2]
    if layout.packed == "interleaved":
        return projected_BSX.reshape(*projected_BSX.shape[:2], n_heads, -1).chunk(3, dim=3)[2]
    n_groups = int(getattr(config, "num_key_value_heads", None) or n_heads)
    return projected_BSX.reshape(*projected_BSX.shape[:2], n_groups, -1)


@contextmanager
def _plain_attention(language_model: LanguageModel) -> Iterator[None]:
    """Within the context attention is computed step by step and returns its pattern."""
    model = language_model.model
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
