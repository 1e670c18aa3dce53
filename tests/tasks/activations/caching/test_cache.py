"""Caching ends with what plain Transformers gives, and refuses what it cannot do."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from catalog.errors import UserError
from tasks.activations.caching.cache import ActivationsConfig, CachedActivations, cache_activations
from tasks.activations.caching.plan import probed_rows
from tasks.activations.models.language_model import LanguageModel, load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.text.packing import PADDING
from tasks.common.progress import Progress

Loader = Callable[[str], LanguageModel]
HOOKPOINTS = ("blocks.1.resid_post", "blocks.0.mlp_act")


def _config(**settings: Any) -> ActivationsConfig:
    defaults = {
        "hookpoints": HOOKPOINTS,
        "context_length": 16,
        "n_tokens": 1_200,
        "eval_share": 0.2,
        "batch_sequences": 8,
        "shard_mebibytes": 0.03,
    }
    return ActivationsConfig(**defaults | settings)


@pytest.fixture
def cached(language_model: Loader, corpus: SimpleNamespace, tmp_path: Path) -> CachedActivations:
    return cache_activations(language_model("llama"), corpus, _config(), tmp_path / "scratch")


def test_cached_values_are_those_of_plain_transformers(
    cached: CachedActivations, model_config: Callable[[str], ModelConfig]
) -> None:
    activation_set = cached.open("blocks.1.resid_post")
    plain = AutoModelForCausalLM.from_pretrained(model_config("llama").path)
    tokens = activation_set.tokens
    values = activation_set.read(np.arange(activation_set.n_sequences)).astype(np.float32)
    n_checked = 0
    for row in range(0, tokens.n_sequences, 7):
        for segment in range(int(tokens.segment[row].max()) + 1):
            inside = np.asarray(tokens.segment[row] == segment)
            token_ids = torch.from_numpy(tokens.token_ids[row][inside].astype(np.int64))[None]
            with torch.no_grad():
                expected = plain(token_ids, output_hidden_states=True).hidden_states[2][0].numpy()
            np.testing.assert_allclose(values[row][inside], expected, atol=2e-3, rtol=2e-3)
            n_checked += 1
    assert n_checked >= 10


def test_sets_of_one_pass_share_tokens_and_differ_in_width(cached: CachedActivations) -> None:
    residual, inner = (cached.open(name) for name in HOOKPOINTS)
    assert (residual.d_in, inner.d_in) == (32, 48)
    assert np.array_equal(residual.tokens.token_ids, inner.tokens.token_ids)
    paths = [cached.folders[name] / "tokens" / "token_ids.npy" for name in HOOKPOINTS]
    assert paths[0].samefile(paths[1])


def test_text_of_every_token_is_found_again(cached: CachedActivations, corpus: SimpleNamespace) -> None:
    tokens = cached.open(HOOKPOINTS[0]).tokens
    texts = corpus.table["text"].to_pylist()
    splits = corpus.table["split"].to_pylist()
    for row in range(tokens.n_sequences):
        for place in np.flatnonzero(tokens.segment[row] != PADDING):
            document = int(tokens.document_index[row, place])
            assert splits[document] == tokens.split[row]
            start, end = tokens.char_start[row, place], tokens.char_end[row, place]
            assert 0 <= start <= end <= len(texts[document])
            assert tokens.valid[row, place] == (end > start)  # only BOS covers no text


def test_budget_and_split_are_kept(cached: CachedActivations) -> None:
    activation_set = cached.open(HOOKPOINTS[0])
    tokens = activation_set.tokens
    n_train = int((tokens.segment[: tokens.n_train] != PADDING).sum())
    n_eval = int((tokens.segment[tokens.n_train :] != PADDING).sum())
    assert 960 <= n_train < 960 + 16
    assert 240 <= n_eval < 240 + 16
    assert activation_set.meta["n_tokens"] == n_train + n_eval == cached.n_tokens
    assert activation_set.meta["n_valid_tokens"] == int(tokens.valid.sum()) == activation_set.n_valid_tokens()
    assert (
        activation_set.n_valid_tokens("train") + activation_set.n_valid_tokens("eval") == tokens.valid.sum()
    )


def test_norm_is_the_mean_over_valid_train_tokens(cached: CachedActivations) -> None:
    activation_set = cached.open(HOOKPOINTS[0])
    rows = activation_set.sequence_rows("train")
    values = activation_set.read(rows).astype(np.float64)[activation_set.tokens.valid[rows]]
    assert activation_set.meta["norm"] == pytest.approx(np.linalg.norm(values, axis=1).mean(), rel=1e-3)


def test_padding_is_stored_as_zeros(language_model: Loader, corpus: SimpleNamespace, tmp_path: Path) -> None:
    config = _config(packing="per_document", hookpoints=HOOKPOINTS[:1])
    activation_set = cache_activations(language_model("gpt2"), corpus, config, tmp_path).open(HOOKPOINTS[0])
    values = activation_set.read(np.arange(activation_set.n_sequences))
    is_padding = np.asarray(activation_set.tokens.segment == PADDING)
    assert is_padding.any()
    assert not values[is_padding].any()
    assert values[~is_padding].any(axis=1).all()


def test_encoders_are_cached_with_their_special_tokens_left_out(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path
) -> None:
    model = language_model("bert")
    activation_set = cache_activations(model, corpus, _config(hookpoints=HOOKPOINTS[:1]), tmp_path).open(
        HOOKPOINTS[0]
    )
    tokens = activation_set.tokens
    special = np.isin(tokens.token_ids, [model.spec.bos_token_id, model.spec.eos_token_id])
    assert special.sum() >= 2 * tokens.n_sequences
    assert not tokens.valid[special].any()


def test_progress_is_told_to_the_end(language_model: Loader, corpus: SimpleNamespace, tmp_path: Path) -> None:
    told: list[Progress] = []
    cache_activations(language_model("llama"), corpus, _config(), tmp_path, told.append)
    cached = [progress for progress in told if progress.what == "tokens cached"]
    n_shard_ends = len({progress.done for progress in cached})
    assert n_shard_ends == len(cached) >= 3, "each forward pass is told once"
    assert cached[-1].done == cached[-1].total
    assert any(progress.what == "tokens packed" for progress in told)


@pytest.mark.parametrize("n_sequences", [1, 2, 33, 100, 134, 1_000, 100_000])
@pytest.mark.parametrize("batch", [1, 16, 64])
def test_the_probe_of_the_number_format_reads_a_small_share(n_sequences: int, batch: int) -> None:
    probed = probed_rows(n_sequences, batch)
    places = [place for rows in probed for place in range(rows.start, rows.stop)]
    assert 1 <= len(places) <= max(1, 0.03 * n_sequences)
    assert len(set(places)) == len(places)
    assert 0 <= min(places) <= max(places) < n_sequences
    assert all(1 <= rows.stop - rows.start <= batch for rows in probed)
    assert len(probed) <= 4


def test_finished_work_is_not_done_again(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model("llama")
    first = cache_activations(model, corpus, _config(), tmp_path)
    monkeypatch.setattr(
        "tasks.activations.caching.shard_pass.capture", lambda *_: pytest.fail("the model was run")
    )
    assert cache_activations(model, corpus, _config(), tmp_path) == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_length": 65}, r"context_length 65 is longer than the context of model 'llama' \(64\)"),
        ({"hookpoints": ()}, "no hookpoint is named"),
        ({"hookpoints": ("blocks.9.resid_post",)}, "has blocks 0 to 2"),
    ],
)
def test_impossible_requests_are_refused(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        cache_activations(language_model("llama"), corpus, _config(**settings), tmp_path)


def test_corpora_without_text_are_refused(
    language_model: Loader, corpus_of: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    model = language_model("llama")
    with pytest.raises(UserError, match="the corpus is empty"):
        cache_activations(model, corpus_of([]), _config(), tmp_path / "a")
    with pytest.raises(UserError, match="no document of the train split has a token"):
        cache_activations(model, corpus_of(["", ""]), _config(), tmp_path / "b")


def test_one_giant_document_is_enough(
    language_model: Loader, corpus_of: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    corpus = corpus_of(["one giant document " * 50_000])
    cached = cache_activations(language_model("llama"), corpus, _config(), tmp_path)
    assert 960 <= cached.n_tokens < 960 + 16
    assert cached.open(HOOKPOINTS[0]).sequence_rows("eval").size == 0


def test_tokenizer_without_bos(language_model: Loader, corpus: SimpleNamespace, tmp_path: Path) -> None:
    model = language_model("llama")
    bare = LanguageModel(_without_bos(model), model.model, model.tokenizer, model.device)
    with pytest.raises(UserError, match=r"has no BOS token: set activations.bos: none"):
        cache_activations(bare, corpus, _config(), tmp_path)
    cache_activations(bare, corpus, _config(bos="none"), tmp_path)


def _without_bos(model: LanguageModel) -> Any:
    return replace(model.spec, bos_token_id=None)


def test_ids_outside_the_vocabulary(
    language_model: Loader, model_builder: Callable[..., Path], corpus: SimpleNamespace, tmp_path: Path
) -> None:
    whole = language_model("llama")
    folder = model_builder("llama", tmp_path / "model", vocab_size=60)
    with pytest.raises(UserError, match="has 395 tokens, its model 60"):
        load_language_model(ModelConfig(id="m", source="local", path=str(folder)), "cpu")
    small = AutoModelForCausalLM.from_pretrained(folder)
    model = LanguageModel(whole.spec, small, whole.tokenizer, whole.device)
    with pytest.raises(UserError, match="the model's vocabulary has 60 tokens"):
        cache_activations(model, corpus, _config(), tmp_path / "scratch")


def test_changed_tokenizer_is_refused_before_the_model_runs(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path
) -> None:
    model = language_model("llama")
    cached = cache_activations(model, corpus, _config(), tmp_path)
    other = LanguageModel(replace(model.spec, tokenizer_digest="f" * 64), None, model.tokenizer, model.device)
    with pytest.raises(UserError, match="the tokenizer changed since caching started"):
        cache_activations(other, corpus, _config(), tmp_path)
    with pytest.raises(UserError, match="not the one with which the activations were"):
        cached.open(HOOKPOINTS[0]).check_tokenizer("f" * 64)
    with pytest.raises(UserError, match="the configuration changed"):
        cache_activations(model, corpus, _config(seed=1), tmp_path)


@pytest.fixture
def fresh_model(model_config: Callable[[str], ModelConfig]) -> LanguageModel:
    return load_language_model(model_config("gpt2"), "cpu")


def test_a_few_nonfinite_tokens_are_dropped_and_counted(
    fresh_model: LanguageModel,
    corpus_of: Callable[..., SimpleNamespace],
    tmp_path: Path,
) -> None:
    texts = ["The keeper of the lighthouse counted the ships. " * 40] * 9 + ["A rare ~ sign. "]
    texts.insert(4, "Every evening she walked back. " * 30)
    corpus = corpus_of(texts)
    (tilde,) = fresh_model.tokenizer("~", add_special_tokens=False)["input_ids"]
    fresh_model.model.get_input_embeddings().weight.data[tilde, 3] = float("nan")
    config = _config(
        hookpoints=("blocks.0.resid_pre",), n_tokens=10_000, packing="per_document", shard_mebibytes=1
    )
    activation_set = cache_activations(fresh_model, corpus, config, tmp_path).open("blocks.0.resid_pre")
    assert activation_set.meta["n_nonfinite"] == 1
    is_tilde = np.asarray(activation_set.tokens.token_ids == tilde)
    assert is_tilde.sum() == 1
    assert not activation_set.tokens.valid[is_tilde].any()
    values = activation_set.read(activation_set.sequence_rows())
    assert np.isfinite(values).all()
    assert not values[is_tilde].any()
    assert np.isfinite(activation_set.meta["norm"])
    assert activation_set.verify() == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_many_nonfinite_tokens_fail_the_stage(
    fresh_model: LanguageModel, corpus: SimpleNamespace, tmp_path: Path, value: float
) -> None:
    fresh_model.model.get_input_embeddings().weight.data[:, 3] = value
    config = _config(hookpoints=("blocks.0.resid_pre",), dtype="float16")
    with pytest.raises(UserError, match=r"tokens have NaN or infinite activations, more than 0\.1 %"):
        cache_activations(fresh_model, corpus, config, tmp_path)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, "float16"), (1e5, "float32")])
def test_range_probe_chooses_the_number_format(
    fresh_model: LanguageModel, corpus: SimpleNamespace, tmp_path: Path, scale: float, expected: str
) -> None:
    fresh_model.model.get_input_embeddings().weight.data *= scale
    config = _config(hookpoints=("blocks.0.resid_pre", "blocks.1.mlp_act"))
    cached = cache_activations(fresh_model, corpus, config, tmp_path)
    assert cached.open("blocks.0.resid_pre").meta["dtype"] == expected
    assert cached.open("blocks.1.mlp_act").meta["dtype"] == "float16"
    assert cached.open("blocks.0.resid_pre").meta["n_nonfinite"] == 0


def test_full_disk_is_one_sentence_and_the_next_run_succeeds(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.faults._visits", Counter())
    monkeypatch.setenv("FEATLAS_FAULT", "shard.write:5:enospc")
    with pytest.raises(UserError, match=r"cannot cache activations in .*No space left"):
        cache_activations(language_model("llama"), corpus, _config(), tmp_path)
    monkeypatch.delenv("FEATLAS_FAULT")
    assert (
        cache_activations(language_model("llama"), corpus, _config(), tmp_path).open(HOOKPOINTS[0]).verify()
        == []
    )
