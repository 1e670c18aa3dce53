"""Massive activations of a built model are found, counted by position, kept or dropped by name."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.caching.massive import FACTOR, MassiveRule, find_massive
from tasks.activations.caching.tables import activation_set_row
from tasks.activations.models.language_model import LanguageModel, load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.common.progress import silent
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import read_valid
from tasks.measures.eval_tokens import eval_tokens
from tasks.mining.codes import encode_to_shards

HOOKPOINT = "blocks.1.resid_post"
TEXTS = ["~" + "The keeper of the lighthouse counted the ships that came in. " * 3] * 40


@pytest.fixture(scope="module")
def model(model_config: Callable[[str], ModelConfig]) -> LanguageModel:
    """A model whose residual stream is enormous on one token, which opens every text."""
    language_model = load_language_model(model_config("llama"), "cpu")
    (tilde,) = language_model.tokenizer("~", add_special_tokens=False)["input_ids"]
    embedding = language_model.model.get_input_embeddings().weight
    with torch.no_grad():
        embedding[tilde] *= 200
    return language_model


def cached(
    model: LanguageModel,
    corpus_of: Callable[..., SimpleNamespace],
    folder: Path,
    texts: Sequence[str] = TEXTS,
    **settings: Any,
) -> ActivationSet:
    corpus = corpus_of([f"{text}{number}." for number, text in enumerate(texts)])
    config = ActivationsConfig(
        hookpoints=(HOOKPOINT,), context_length=64, n_tokens=20_000, packing="per_document", **settings
    )
    return cache_activations(model, corpus, config, folder).open(HOOKPOINT)


def test_they_are_counted_by_position_and_said(
    model: LanguageModel, corpus_of: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = cached(model, corpus_of, tmp_path)
    values = found.read(found.sequence_rows()).astype(np.float64)
    norms = np.where(found.tokens.valid, np.linalg.norm(values, axis=2), np.nan)
    massive = norms > FACTOR * np.nanmedian(norms)
    assert massive.any()
    np.testing.assert_array_equal(found.massive, massive)
    row = activation_set_row(found, "set", "corpus", "uri").to_pylist()[0]
    assert row["n_massive"] == massive.sum()
    assert row["max_norm"] == pytest.approx(np.nanmax(norms), rel=1e-2)
    assert row["median_norm"] == pytest.approx(np.nanmedian(norms), rel=1e-2)
    squares = norms**2
    assert row["massive_share"] == pytest.approx(squares[massive].sum() / np.nansum(squares), rel=1e-2)
    assert row["massive_positions"] == [{"position": 1, "n": massive.sum()}]
    assert row["massive_tokens"] == "keep"
    assert f"{massive.sum():,} of {found.meta['n_valid_tokens']:,} valid tokens" in caplog.text
    assert "activations.massive_tokens: drop" in caplog.text


@pytest.mark.parametrize("setting", [{"massive_tokens": "drop"}, {"drop_first_token": True}])
def test_both_settings_leave_them_out(
    model: LanguageModel, corpus_of: Any, tmp_path: Path, setting: dict[str, Any]
) -> None:
    kept, left = cached(model, corpus_of, tmp_path / "a"), cached(model, corpus_of, tmp_path / "b", **setting)
    valid = np.asarray(left.tokens.valid)
    assert (
        valid.sum() == left.meta["n_valid_tokens"] == np.asarray(kept.tokens.valid).sum() - kept.massive.sum()
    )
    assert not (valid & kept.massive).any()
    train = left.sequence_rows("train")
    norms = np.linalg.norm(left.read(train).astype(np.float64), axis=2)[valid[train]]
    assert left.meta["norm"] == pytest.approx(norms.mean(), rel=1e-3)
    assert left.meta["norm"] < kept.meta["norm"] / 2


def test_a_heavy_tail_is_no_massive_token_and_no_token_no_median() -> None:
    heavy = np.where(np.arange(100).reshape(10, 10) % 7 == 0, 100.0, 1.0).astype(np.float32)
    assert find_massive(heavy).places == ()
    assert find_massive(np.full((2, 3), np.nan, np.float32)).median == 0
    assert find_massive(np.zeros((2, 3), np.float32)).places == ()
    one = np.ones((10, 10), np.float32)
    one[3, 4], one[5, 5] = 6.0, np.nan
    assert find_massive(one).places == (34,)


def test_a_multiple_masks_the_same_tokens_for_training_metrics_and_mining(
    model: LanguageModel, corpus_of: Any, tmp_path: Path
) -> None:
    kept = cached(model, corpus_of, tmp_path / "a")
    masked = cached(model, corpus_of, tmp_path / "b", sink_norm_multiple=20.0)
    row = activation_set_row(masked, "set", "corpus", "uri").to_pylist()[0]
    values = kept.read(kept.sequence_rows()).astype(np.float64)
    norms = np.where(kept.tokens.valid, np.linalg.norm(values, axis=2), np.nan)
    sinks = norms > 20 * np.nanmedian(norms)
    assert sinks.any()
    np.testing.assert_array_equal(masked.tokens.valid, np.asarray(kept.tokens.valid) & ~sinks)
    assert row["masked_share"] == pytest.approx(sinks.sum() / np.asarray(kept.tokens.valid).sum())
    assert (row["sink_norm_multiple"], row["massive_tokens"]) == (20.0, "drop")

    limit = 20 * np.nanmedian(norms)
    train = read_valid(masked, masked.sequence_rows("train")).float().norm(dim=1)
    measured = torch.cat([part.values_NW for part in eval_tokens(HookpointActivations.of(masked), 10**6, 8)])
    assert len(train) == masked.n_valid_tokens("train")
    assert len(measured) == masked.n_valid_tokens("eval")
    assert max(train.max(), measured.norm(dim=1).max()) < limit
    config = dictionary_config({"architecture": "topk", "k": 2, "d_sae": 8, "n_tokens": 1})
    shards = encode_to_shards(
        build_dictionary(config, masked.d_in),
        masked,
        tmp_path / "codes",
        shard_tokens=4_096,
        max_nonfinite_share=0.0,
        listener=silent,
    )
    assert sum(shard.n_tokens for shard in shards) == masked.meta["n_valid_tokens"]


def test_nothing_is_masked_where_no_norm_stands_out(
    model: LanguageModel, corpus_of: Any, tmp_path: Path
) -> None:
    texts = [text.removeprefix("~") for text in TEXTS]
    plain, masked = (
        cached(model, corpus_of, tmp_path / name, texts=texts, **settings)
        for name, settings in (("a", {}), ("b", {"sink_norm_multiple": 20.0}))
    )
    np.testing.assert_array_equal(plain.tokens.valid, masked.tokens.valid)
    row = activation_set_row(masked, "set", "corpus", "uri").to_pylist()[0]
    assert (row["n_massive"], row["masked_share"]) == (0, 0.0)
    row = activation_set_row(plain, "set", "corpus", "uri").to_pylist()[0]
    assert (row["sink_norm_multiple"], row["masked_share"]) == (None, None)


def test_a_multiple_is_stated_once_and_only_where_it_is_set_in_the_fingerprint() -> None:
    needed = {"context_length": 8, "n_tokens": 8}
    assert "sink_norm_multiple" not in ActivationsConfig(**needed).canonical()
    assert ActivationsConfig(**needed, sink_norm_multiple=4).canonical()["sink_norm_multiple"] == 4
    with pytest.raises(ValidationError, match="give one of them"):
        ActivationsConfig(**needed, massive_tokens="drop", sink_norm_multiple=4)
    with pytest.raises(ValidationError, match="sink_norm_multiple"):
        ActivationsConfig(**needed, sink_norm_multiple=1)
    wide = np.where(np.arange(100).reshape(10, 10) % 7 == 0, 100.0, 1.0).astype(np.float32)
    assert len(find_massive(wide, MassiveRule.of(4.0)).places) == 15
