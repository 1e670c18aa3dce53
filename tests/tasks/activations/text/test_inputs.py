"""A document packed among others is run exactly as if it stood alone."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from catalog.errors import UserError
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.corpus_tokens import packing_config
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture
from tasks.activations.text.inputs import model_inputs, positions
from tasks.activations.text.packing import ARRAYS, PADDING, PackedTokens, pack
from tasks.activations.text.tokenisation import tokenise

Loader = Callable[[str], LanguageModel]
FAMILIES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "gpt_neox_sequential",
    "bert",
    "roberta",
    "distilbert",
)
LAST = "blocks.2.resid_post"


def _packed(model: LanguageModel, corpus: SimpleNamespace, **settings: Any) -> PackedTokens:
    config = ActivationsConfig(**{"context_length": 48, "n_tokens": 400, "hookpoints": (LAST,)} | settings)
    texts: pa.ChunkedArray = corpus.table["text"]
    documents = tokenise(model.tokenizer, texts, range(8), config.n_tokens)
    sequences = list(pack(documents, packing_config(model, config), config.n_tokens))
    arrays = {name: np.stack([getattr(s, name) for s in sequences]) for name in ARRAYS}
    return PackedTokens(**arrays, n_train=len(sequences))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bos", ["none", "drop"])
def test_packed_document_equals_the_document_alone(
    language_model: Loader, corpus: SimpleNamespace, family: str, bos: str
) -> None:
    model = language_model(family)
    packed = _packed(model, corpus, bos=bos)
    rows = np.arange(packed.n_sequences)
    together = capture(model, [LAST], model_inputs(model, packed, rows))[LAST]
    n_checked = 0
    for row in rows:
        for segment in range(int(packed.segment[row].max()) + 1):
            inside = packed.segment[row] == segment
            token_ids = torch.from_numpy(packed.token_ids[row][inside].astype(np.int64))[None]
            alone = capture(model, [LAST], {"input_ids": token_ids})[LAST][0]
            torch.testing.assert_close(together[row][torch.from_numpy(inside)], alone, atol=1e-4, rtol=1e-4)
            n_checked += segment > 0
    assert n_checked >= 3  # several documents did share a sequence


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_document_equals_the_document_alone(
    language_model: Loader, corpus: SimpleNamespace, family: str
) -> None:
    model = language_model(family)
    packed = _packed(model, corpus, packing="per_document")
    inputs = model_inputs(model, packed, np.arange(packed.n_sequences))
    assert inputs.get("attention_mask", torch.zeros(1, 1)).ndim == 2
    together = capture(model, [LAST], inputs)[LAST]
    assert (packed.segment == PADDING).any()
    for row in range(packed.n_sequences):
        inside = packed.segment[row] != PADDING
        token_ids = torch.from_numpy(packed.token_ids[row][inside].astype(np.int64))[None]
        alone = capture(model, [LAST], {"input_ids": token_ids})[LAST][0]
        torch.testing.assert_close(together[row][torch.from_numpy(inside)], alone, atol=1e-4, rtol=1e-4)


def test_sliding_window_matters_in_these_tests(language_model: Loader, corpus: SimpleNamespace) -> None:
    """Guards the tests above: with the window ignored their packed sequences would differ."""
    model = language_model("gemma2")
    packed = _packed(model, corpus)
    inputs = model_inputs(model, packed, np.arange(packed.n_sequences))
    masks = inputs["attention_mask"]
    kept = capture(model, [LAST], inputs)[LAST]
    inputs["attention_mask"] = dict.fromkeys(masks, masks["full_attention"])
    assert (capture(model, [LAST], inputs)[LAST] - kept).abs().max() > 1e-3


def test_sequences_with_one_document_need_no_mask(language_model: Loader, corpus: SimpleNamespace) -> None:
    packed = _packed(language_model("llama"), corpus, packing="per_document")
    assert set(model_inputs(language_model("llama"), packed, slice(0, 2))) == {"input_ids", "use_cache"}


def test_positions_restart_with_every_segment() -> None:
    segment = np.array([[0, 0, 0, 1, 1, -1, -1], [0, 1, 2, 2, 2, 2, 2]], np.int32)
    assert positions(segment).tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 0, 0, 1, 2, 3, 4]]


def test_unknown_layouts_are_not_packed_together(
    language_model: Loader, corpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model("llama")
    packed = _packed(model, corpus)
    monkeypatch.setattr(model.model.config, "model_type", "novelty")
    with pytest.raises(UserError, match="set packing: per_document"):
        model_inputs(model, packed, np.arange(packed.n_sequences))
