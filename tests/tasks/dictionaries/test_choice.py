"""Mutual Choice and Feature Choice: Zipf's law, quotas, what is underused, thresholds of latents."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from catalog.errors import UserError
from tasks.dictionaries.architectures.feature_choice import top_of_columns
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.families.zipf_auxk import ZipfCurve, fit_zipf, integer_quotas
from tasks.dictionaries.sparse_codes import pairs_of_mask
from tasks.dictionaries.training_state import TrainingState


def build(name: str, **fields: Any) -> Any:
    base = {"architecture": name, "d_sae": 40, "n_tokens": 1, "k": 2, "batch_tokens": 64}
    return build_dictionary(dictionary_config({**base, **fields}), 40).requires_grad_(False)


def state_of(n_latents: int = 40, **changes: Any) -> TrainingState:
    since = torch.zeros(n_latents, dtype=torch.int64)
    state = TrainingState(100, 128, 1.0, 1.0, 1.0, since, torch.Generator())
    for name, value in changes.items():
        setattr(state, name, value)
    return state


@pytest.mark.parametrize(("exponent", "shift"), [(1.0, 0.0), (0.7, 0.0), (1.3, 10.0), (0.0, 0.0)])
def test_a_zipf_law_is_found_again(exponent: float, shift: float) -> None:
    rates = ZipfCurve(exponent, shift).rates(1000, total=20.0)
    assert float(rates.sum()) == pytest.approx(20.0)
    shuffled = rates[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    found = fit_zipf(shuffled).rates(1000, total=20.0)
    torch.testing.assert_close(found, rates, rtol=0.05, atol=0)


def test_the_fit_leaves_out_the_rarest_and_the_dead() -> None:
    rates = ZipfCurve(1.0, 0.0).rates(1000, total=20.0)
    rates[950:] *= 1e-3
    rates[990:] = 0
    assert fit_zipf(rates).exponent == pytest.approx(1.0, abs=1e-3)
    assert fit_zipf(torch.zeros(5)) == ZipfCurve(0.0, 0.0)


@pytest.mark.parametrize("total", [3, 40, 41, 97, 640, 2559, 2560])
def test_quotas_add_up_within_their_bounds(total: int) -> None:
    quotas = integer_quotas(ZipfCurve(1.2, 0.5).rates(40, total=2.0), total, n_tokens=64)
    assert int(quotas.sum()) == total
    assert int(quotas.max()) <= 64
    assert int(quotas.min()) >= (1 if total >= 40 else 0)
    assert quotas.tolist() == sorted(quotas.tolist(), reverse=True), "the more frequent gets no less"


def test_quotas_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2561 pairs do not fit into 40 latents on 64 tokens"):
        integer_quotas(torch.ones(40), 2561, n_tokens=64)


def test_top_of_columns_equals_a_plain_loop() -> None:
    random = torch.Generator().manual_seed(3)
    pre = torch.randn(64, 40, generator=random)
    quotas = torch.randint(0, 50, (40,), generator=random)
    mask = torch.zeros(64, 40, dtype=torch.bool)
    for latent in range(40):
        best = pre[:, latent].argsort(descending=True)[: quotas[latent]]
        mask[best, latent] = pre[best, latent] > 0
    found = top_of_columns(pre, quotas)
    assert torch.equal(found.dense(torch.ones(len(found.tokens))).bool(), mask)
    assert (found.tokens.diff() >= 0).all(), "in the order of tokens"


def test_underused_latents_are_revived_though_they_are_not_dead() -> None:
    dictionary = build("mutual_choice")
    rates = ZipfCurve(1.0, 0.0).rates(40, total=2.0).float()
    rates[[7, 39]] = torch.tensor([1e-4, 1e-5])
    underused = dictionary.underused(rates)
    assert underused.nonzero().flatten().tolist() == [7, 39]
    state = state_of()
    state.tokens_since_fired[3] = 1000
    assert dictionary.revived(state).nonzero().flatten().tolist() == [3], "before the first fit: the dead"
    state.memory["underused"] = underused
    assert dictionary.revived(state).nonzero().flatten().tolist() == [3, 7, 39]


def test_rates_are_means_over_tokens_and_settle_what_is_underused() -> None:
    dictionary = build("mutual_choice")
    state = state_of()
    mask = torch.zeros(64, 40, dtype=torch.bool)
    mask[:, 0] = True
    for half in (slice(0, 64), slice(0, 32)):
        fires = mask.clone()
        fires[half, 1] = True
        pairs = pairs_of_mask(fires)
        dictionary.observe(pairs, torch.ones(len(pairs.tokens)), state)
        state.count(fires.any(dim=0), 64)
    assert state.memory["rates"][:3].tolist() == [1.0, 0.75, 0.0]
    assert "underused" not in state.memory, "not before dead_after_tokens"
    state.step = 20
    pairs = pairs_of_mask(mask)
    dictionary.observe(pairs, torch.ones(len(pairs.tokens)), state)
    assert state.memory["underused"].tolist() == [False] * 2 + [True] * 38


def test_feature_choice_begins_as_mutual_choice_and_then_keeps_quotas() -> None:
    dictionary = build("feature_choice", zipf_exponent=1.0, mutual_share=0.5)
    pre = torch.randn(64, 40, generator=torch.Generator().manual_seed(0)) + 2
    pre[:, 5] += 10
    first = dictionary.select(pre, state_of(step=49))
    assert torch.bincount(first.latents)[5] == 64
    state = state_of(step=50)
    state.memory["rates"] = torch.linspace(0, 1, 40)
    then = torch.bincount(dictionary.select(pre, state).latents, minlength=40)
    assert int(then.sum()) == 2 * 64
    assert then.tolist() == sorted(then.tolist()), "the last was the most frequent"
    assert then[0] >= 1
    state.memory["rates"] = torch.linspace(1, 0, 40)
    again = torch.bincount(dictionary.select(pre, state).latents, minlength=40)
    assert torch.equal(then, again), "quotas stay as they were at the change"


def test_thresholds_follow_the_smallest_kept_activation_of_each_latent() -> None:
    dictionary = build("feature_choice", zipf_exponent=1.0, threshold_decay=0.9)
    none = float("inf")
    dictionary.learn_thresholds(torch.tensor([0.5, none] + [none] * 38))
    dictionary.learn_thresholds(torch.tensor([1.5, 0.3] + [none] * 38))
    assert dictionary.threshold[:3].tolist() == pytest.approx([0.6, 0.3, -1.0])


def test_thresholds_that_miss_k_are_multiplied_by_one_factor() -> None:
    dictionary = build("feature_choice", zipf_exponent=1.0)
    dictionary.W_enc.copy_(torch.eye(40))
    sample = torch.rand(500, 40, generator=torch.Generator().manual_seed(0))
    dictionary.threshold.copy_(torch.linspace(0.1, 0.5, 40))
    before = dictionary.threshold.clone()
    settled = dictionary.after_training(sample)
    assert (dictionary.encode(sample) > 0).sum() == 2 * 500
    torch.testing.assert_close(dictionary.threshold, before * settled["threshold_factor"])
    kept = dictionary.threshold.clone()
    assert dictionary.after_training(sample)["threshold_factor"] == 1.0
    assert torch.equal(dictionary.threshold, kept)


def test_what_cannot_be_shared_out_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValidationError, match="give zipf_exponent or uniform quotas"):
        build("feature_choice", mutual_share=0)
    with pytest.raises(UserError, match="2 x 16 pairs of a batch cannot give each of 40 latents a token"):
        build("feature_choice", batch_tokens=16)
