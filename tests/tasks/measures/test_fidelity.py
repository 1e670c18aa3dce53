"""CE and KL under replacement, against a plain recomputation of one sequence at a time."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

from tasks.activations.models.language_model import LanguageModel, ModelSpec
from tasks.activations.text.packing import PackedTokens
from tasks.measures.fidelity import (
    CLEAN,
    MASKED_SHARE,
    Replacement,
    ReplacementInContext,
    measure_fidelity,
    why_unmeasurable,
)

VOCABULARY, CONTEXT, D = 50, 12, 16
SMALL = {"vocab_size": VOCABULARY, "hidden_size": D, "intermediate_size": 32, "num_hidden_layers": 2}
MASK_TOKEN = 49


def make_model(causal: bool, **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**SMALL, num_attention_heads=2))
        if causal
        else BertForMaskedLM(BertConfig(**SMALL, num_attention_heads=2, max_position_embeddings=32))
    )
    for parameter in model.parameters():
        parameter.data.mul_(8)  # predictions far from uniform, so that replacements matter
    spec = ModelSpec(
        model_id="small",
        source="local",
        revision=None,
        architecture=model.config.model_type,
        n_layers=2,
        d_model=D,
        vocab_size=VOCABULARY,
        max_context=None,
        n_parameters=0,
        tokenizer_digest="",
        weights_digest="",
        is_causal=causal,
        bos_token_id=0,
        eos_token_id=1,
        mask_token_id=changes.get("mask_token_id", None if causal else MASK_TOKEN),
    )
    return LanguageModel(spec, model.eval().requires_grad_(False), None, torch.device("cpu"))


def make_tokens(n_sequences: int = 5) -> PackedTokens:
    """Two documents of 6 tokens per sequence, each beginning with a BOS that is not valid."""
    ids = np.random.default_rng(0).integers(2, 49, (n_sequences, CONTEXT)).astype(np.int32)
    segment = np.repeat([[0] * 6 + [1] * 6], n_sequences, axis=0).astype(np.int32)
    valid = np.ones_like(ids, dtype=bool)
    valid[:, [0, 6]] = False
    ids[:, [0, 6]] = 0
    return PackedTokens(ids, segment, segment, segment, segment, valid, n_train=0)


def expected_run(model: LanguageModel, ids: Any, hook: Any, scored: Any) -> Any:
    """Log-probabilities at the scored positions of one document, run alone."""
    blocks = model.model.model.layers if model.spec.is_causal else model.model.bert.encoder.layer

    def replace(_module: Any, _args: Any, output: Any) -> Any:
        value = output[0] if isinstance(output, tuple) else output
        replaced = torch.cat([value[:, :1], hook(value[0, 1:])[None]], dim=1)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    handle = blocks[0].register_forward_hook(replace)
    logits = model.model(input_ids=torch.from_numpy(ids[None].astype(np.int64))).logits[0]
    handle.remove()
    return logits.log_softmax(dim=-1)[scored]


@pytest.mark.parametrize("causal", [True, False])
def test_sums_equal_a_plain_recomputation(causal: bool) -> None:
    model, tokens = make_model(causal), make_tokens()
    mean = torch.linspace(-1, 1, D)
    hooks = {
        CLEAN: lambda x: x,
        "zero_ablation": lambda x: x * 0,
        "mean_ablation": lambda x: x * 0 + mean,
        "half": lambda x: x * 0.5,
    }
    rows = np.array([1, 3, 4])
    measured = measure_fidelity(
        model, tokens, rows, "blocks.0.resid_post", mean, {"half": hooks["half"]}, seed=7
    )
    ce, kl, n = dict.fromkeys(hooks, 0.0), dict.fromkeys(hooks, 0.0), 0
    for row in rows:
        drawn = np.random.default_rng((7, int(row))).random(CONTEXT) < MASKED_SHARE
        for part in (slice(0, 6), slice(6, 12)):
            ids = tokens.token_ids[row, part].copy()
            positions = np.arange(1, 5) if causal else np.flatnonzero(drawn[part] & tokens.valid[row, part])
            targets = torch.from_numpy(ids[positions + 1] if causal else ids[positions]).long()
            if not causal:
                ids[positions] = MASK_TOKEN
            runs = {name: expected_run(model, ids, hook, positions) for name, hook in hooks.items()}
            n += len(positions)
            for name, log_probs in runs.items():
                ce[name] -= float(log_probs.gather(1, targets[:, None]).sum())
                kl[name] += float((runs[CLEAN].exp() * (runs[CLEAN] - log_probs)).sum())
    assert measured.n == n > 0
    for name in hooks:
        assert measured.ce(name) == pytest.approx(ce[name] / n, rel=1e-4)
        assert measured.kl(name) == pytest.approx(kl[name] / n, rel=1e-3, abs=1e-6)
    assert measured.kl("half") > 0.01


def test_a_replacement_in_context_sees_whole_sequences_and_their_documents() -> None:
    model, tokens, rows = make_model(True), make_tokens(), np.array([1, 3, 4])

    def view(value_BTD: torch.Tensor, segment_BT: torch.Tensor) -> torch.Tensor:
        assert value_BTD.shape == (3, CONTEXT, D)
        np.testing.assert_array_equal(segment_BT.numpy(), tokens.segment[rows])
        return torch.cat([value_BTD.roll(1, dims=1), value_BTD], dim=2)

    replacements: dict[str, Replacement] = {
        "half": lambda x_ND: x_ND / 2,
        "own half": ReplacementInContext(view, lambda rows_NW: rows_NW[:, D:] / 2),
        "one before": ReplacementInContext(view, lambda rows_NW: rows_NW[:, :D]),
    }
    measured = measure_fidelity(model, tokens, rows, "blocks.0.resid_post", torch.zeros(D), replacements)
    assert measured.ce("own half") == measured.ce("half")
    assert abs(measured.ce("one before") - measured.ce("half")) > 0.01


def test_perfect_reconstruction_recovers_all() -> None:
    measured = measure_fidelity(
        make_model(True),
        make_tokens(),
        np.arange(5),
        "blocks.0.resid_post",
        torch.zeros(D),
        {"same": lambda x: x.clone(), "zero": torch.zeros_like},
    )
    assert measured.kl("same") == pytest.approx(0, abs=1e-9)
    assert measured.kl_recovered("same", "zero_ablation") == pytest.approx(1)
    assert measured.delta_ce("same") == pytest.approx(0, abs=1e-9)
    assert measured.kl_recovered("zero", "zero_ablation") == pytest.approx(0)


def test_a_transcoder_that_is_the_mlp_itself_changes_nothing() -> None:
    """The output of the MLP is replaced by what is made of its input."""
    model = make_model(True)
    mlp, mean_E = model.model.model.layers[0].mlp, torch.linspace(-1, 1, D)
    measured = measure_fidelity(
        model,
        make_tokens(),
        np.arange(5),
        "blocks.0.mlp_out",
        mean_E,
        {"itself": mlp, "wrong": lambda x: mlp(x.flip(0)), "constant": lambda x: mean_E.expand(len(x), D)},
        reads=["blocks.0.mlp_in"],
    )
    assert measured.kl("itself") == pytest.approx(0, abs=1e-9)
    assert measured.kl("wrong") > 0.01
    assert measured.ce("constant") == measured.ce("mean_ablation") != measured.ce(CLEAN)


def test_the_mask_is_the_same_every_time_and_follows_the_seed() -> None:
    model, tokens = make_model(False), make_tokens()

    def ce(seed: int) -> float:
        rows = np.arange(5)
        return measure_fidelity(model, tokens, rows, "blocks.0.resid_post", torch.zeros(D), {}, seed=seed).ce(
            CLEAN
        )

    assert ce(1) == ce(1)
    assert ce(1) != ce(2)


def test_what_cannot_be_measured_has_a_reason() -> None:
    assert why_unmeasurable(make_model(True), "blocks.0.resid_post") is None
    assert "can be read but not replaced" in str(why_unmeasurable(make_model(True), "blocks.0.resid_mid"))
    assert "without a mask token" in str(
        why_unmeasurable(make_model(False, mask_token_id=None), "blocks.0.resid_post")
    )
