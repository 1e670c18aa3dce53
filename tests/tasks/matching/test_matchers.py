"""Matchers on dictionaries whose right matches are known (methods B13.6)."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from scipy.sparse import csc_array

from catalog.errors import UserError
from catalog.schemas import TABLES
from tasks.activations.reading.shards import ActivationSet
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.architectures.topk import TopKConfig
from tasks.dictionaries.base import Dictionary, build_dictionary
from tasks.matching.intervals import correlation_intervals
from tasks.matching.matcher import (
    MATCHERS,
    Matched,
    MatcherConfig,
    Side,
    match_dictionaries,
)

D, L, K = 24, 40, 3
N_DOCUMENTS, N_PER_DOCUMENT = 30, 40


class SetInMemory(ActivationSet):
    """An activation set whose shards are an array, so that spaces can be rotated and noised."""

    def __init__(self, x_STD: np.ndarray, tokens: PackedTokens, space: str = "model") -> None:
        self.folder = Path()
        self.meta = {
            "model_id": space,
            "hookpoint": "blocks.0.resid_post",
            "corpus_digest": "one",
            "n_sequences": len(x_STD),
            "context_length": x_STD.shape[1],
            "d_in": x_STD.shape[2],
        }
        self.tokens = tokens
        self._x_STD = x_STD

    def read(self, rows: Any) -> np.ndarray:
        return self._x_STD[np.asarray(rows)]


def one_document_a_sequence(n_tokens: int = N_PER_DOCUMENT) -> PackedTokens:
    shape = (N_DOCUMENTS, n_tokens)
    start = np.tile(np.arange(n_tokens, dtype=np.int32), (N_DOCUMENTS, 1))
    document = np.repeat(np.arange(N_DOCUMENTS, dtype=np.int32)[:, None], n_tokens, axis=1)
    zeros = np.zeros(shape, np.int32)
    return PackedTokens(zeros, zeros, document, start, start + 1, np.ones(shape, bool), n_train=0)


def planted(seed: int = 0) -> Dictionary:
    config = TopKConfig(d_sae=L, k=K, seed=seed, n_tokens=1)
    return build_dictionary(config, D)


def activations(dictionary: Dictionary, seed: int = 0) -> np.ndarray:
    """Sums of K random directions of the dictionary: (documents, tokens, D)."""
    rng = np.random.default_rng(seed)
    shape = (N_DOCUMENTS, N_PER_DOCUMENT, K)
    chosen = torch.from_numpy(rng.integers(0, L, shape))
    strength = torch.from_numpy(rng.uniform(1, 2, shape)).float()
    with torch.no_grad():
        return torch.einsum("stk,stkd->std", strength, dictionary.W_dec[chosen]).numpy()


def side(dictionary: Dictionary, x_STD: np.ndarray, name: str = "a", space: str = "model") -> Side:
    return Side(name, f"set-{name}", dictionary, SetInMemory(x_STD, one_document_a_sequence(), space))


def changed(dictionary: Dictionary, order: np.ndarray, scale: np.ndarray) -> Dictionary:
    """The same dictionary with its latents permuted and rescaled (decoder up, encoder down)."""
    copy = planted()
    with torch.no_grad():
        copy.W_dec.copy_(dictionary.W_dec[order] * torch.from_numpy(scale[:, None]).float())
        copy.W_enc.copy_(dictionary.W_enc[:, order])
        copy.b_enc.copy_(dictionary.b_enc[order])
    return copy


def rotated(dictionary: Dictionary, Q_DD: torch.Tensor) -> Dictionary:
    copy = planted()
    with torch.no_grad():
        copy.W_dec.copy_(dictionary.W_dec @ Q_DD)
        copy.W_enc.copy_(Q_DD.T @ dictionary.W_enc)
    return copy


def noisy(dictionary: Dictionary, level: float) -> Dictionary:
    copy = planted()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        copy.W_dec.add_(level * torch.randn(L, D, generator=generator) / D**0.5)
        copy.W_enc.copy_(copy.W_dec.T / copy.W_dec.norm(dim=1))
    return copy


def run(matcher: str, a: Side, b: Side, **options: Any) -> Matched:
    if matcher == "activation_correlation":
        options = {"n_shifts": 99, "min_firings": 3, **options}
    return match_dictionaries(a, b, config_of(matcher, **options))


def config_of(matcher: str, **options: Any) -> MatcherConfig:
    return MATCHERS[matcher].Config.model_validate({"matcher": matcher, **options})


def best_partners(matched: Matched) -> dict[int, int]:
    best = matched.table.filter(pc.equal(matched.table["rank"], 0))
    return dict(zip(best["feature_a"].to_pylist(), best["feature_b"].to_pylist(), strict=True))


def mean_best_score(matched: Matched) -> float:
    return float(pc.mean(matched.table.filter(pc.equal(matched.table["rank"], 0))["score"]).as_py())


BOTH = pytest.mark.parametrize("matcher", ["decoder_cosine", "activation_correlation"])


@BOTH
def test_a_permuted_and_rescaled_copy_is_matched_perfectly(matcher: str) -> None:
    rng = np.random.default_rng(0)
    order, scale = rng.permutation(L), rng.uniform(0.5, 3, L)
    original = planted()
    x = activations(original)
    matched = run(matcher, side(original, x), side(changed(original, order, scale), x, "b"))
    partners = best_partners(matched)
    assert len(partners) == L
    assert all(order[b] == a for a, b in partners.items())
    best = matched.table.filter(pc.equal(matched.table["rank"], 0))
    assert set(best["verdict"].to_pylist()) == {"same"}
    assert pc.all(best["mutual"]).as_py()
    assert min(best["score"].to_pylist()) > 0.999


@BOTH
def test_noise_degrades_the_match_monotonically(matcher: str) -> None:
    original = planted()
    x = activations(original)
    scores = [
        mean_best_score(run(matcher, side(original, x), side(noisy(original, level), x, "b")))
        for level in (0.0, 0.3, 0.6, 1.2)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.999
    assert scores[-1] < 0.9


def test_a_rotation_kills_the_cosine_and_leaves_the_correlation_perfect() -> None:
    original = planted()
    x = activations(original)
    Q_DD = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(3)))[0]
    turned = side(rotated(original, Q_DD), x @ Q_DD.numpy(), "b")
    correlated = run("activation_correlation", side(original, x), turned)
    assert all(a == b for a, b in best_partners(correlated).items())
    assert mean_best_score(correlated) > 0.999
    cosine = run("decoder_cosine", side(original, x), turned)
    assert "same" not in cosine.table["verdict"].to_pylist()
    assert sum(a == b for a, b in best_partners(cosine).items()) < L / 4


def test_random_directions_of_another_seed_are_not_matched_by_cosine() -> None:
    x = activations(planted())
    matched = run("decoder_cosine", side(planted(0), x), side(planted(1), x, "b"))
    assert matched.facts["n_same"] == 0
    assert min(q for q in matched.table["q_value"].to_pylist() if q is not None) > 0.05


def test_features_of_shuffled_text_are_not_called_the_same() -> None:
    original = planted()
    x = activations(original)
    rng = np.random.default_rng(5)
    shuffled = np.stack([document[rng.permutation(N_PER_DOCUMENT)] for document in x])
    matched = run("activation_correlation", side(original, x), side(original, shuffled, "b"))
    assert matched.facts["n_same"] <= 1


@BOTH
def test_rows_have_the_columns_of_the_table_and_each_pair_once(matcher: str) -> None:
    original = planted()
    x = activations(original)
    table = run(matcher, side(original, x), side(planted(1), x, "b"), n_partners=2).table
    spec = TABLES["matches"]
    assert set(table.column_names) == {c.name for c in spec.columns} - {"fingerprint", "slice", "subject"}
    keys = list(zip(*(table[name].to_pylist() for name in spec.key), strict=True))
    assert len(keys) == len(set(keys))
    later = table.filter(pc.greater(table["rank"], 0))
    assert later["p_value"].null_count == len(later)


def test_cosine_refuses_two_spaces() -> None:
    x = activations(planted())
    with pytest.raises(UserError, match="use matcher activation_correlation"):
        run("decoder_cosine", side(planted(), x), side(planted(), x, "b", space="other"))


def test_correlation_refuses_two_corpora() -> None:
    x = activations(planted())
    other = side(planted(), x, "b")
    other.activation_set.meta["corpus_digest"] = "another"
    with pytest.raises(UserError, match="cache both on one corpus"):
        run("activation_correlation", side(planted(), x), other)


def test_features_that_never_fire_take_no_part() -> None:
    original, silent = planted(), planted()
    x = activations(original)
    with torch.no_grad():
        silent.b_enc[:10] = -100.0
    matched = run("activation_correlation", side(silent, x), side(original, x, "b"))
    assert not set(range(10)) & set(matched.table["feature_a"].to_pylist())


def test_a_dictionary_without_firings_is_refused_in_a_sentence() -> None:
    dead = planted()
    x = activations(dead)
    with torch.no_grad():
        dead.b_enc.fill_(-100.0)
    with pytest.raises(UserError, match="fire at least"):
        run("activation_correlation", side(dead, x), side(planted(), x, "b"))


def test_unknown_matcher_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="known: activation_correlation, decoder_cosine"):
        MATCHERS["nearest"]


def test_a_weak_correlation_is_significant_and_not_the_same() -> None:
    """Half of the latents of the second side are replaced; what is left of the overlap is no identity."""
    original, other = planted(), planted()
    x = activations(original)
    with torch.no_grad():
        fresh = planted(9)
        other.W_dec[: L // 2] = 0.5 * original.W_dec[: L // 2] + 0.5 * fresh.W_dec[: L // 2]
        other.W_enc[:, : L // 2] = other.W_dec[: L // 2].T
    matched = run("activation_correlation", side(original, x), side(other, x, "b"))
    best = matched.table.filter(pc.equal(matched.table["rank"], 0)).to_pylist()
    weak = [row for row in best if row["mutual"] and row["q_value"] <= 0.05 and row["score"] < 0.7]
    assert weak
    assert all(row["verdict"] != "same" for row in weak)
    assert all(row["score"] > row["same_above"] for row in best if row["verdict"] == "same")


@BOTH
def test_random_directions_in_place_of_the_second_side_reach_the_floor_and_no_more(matcher: str) -> None:
    """A dictionary of random directions is matched no better than the floor beside it says."""
    original = planted()
    x = activations(original)
    facts = run(matcher, side(original, x), side(planted(7), x, "b")).facts
    assert facts["floor_share_same"] <= 0.1
    assert facts["share_same"] == pytest.approx(facts["floor_share_same"], abs=0.1)
    assert facts["mean_best_score"] == pytest.approx(facts["floor_mean_best_score"], abs=0.06)
    own = run(matcher, side(original, x), side(original, x, "b")).facts
    assert own["share_same"] == 1
    assert own["floor_share_same"] == pytest.approx(facts["floor_share_same"], abs=0.1)


def test_only_correlations_have_an_interval_and_it_is_over_documents() -> None:
    original = planted()
    x = activations(original)
    table = run("activation_correlation", side(original, x), side(noisy(original, 0.6), x, "b")).table
    assert set(table["n_documents"].to_pylist()) == {N_DOCUMENTS}
    rows = [row for row in table.to_pylist() if row["ci_low"] is not None]
    assert len(rows) > 0.9 * len(table)
    assert all(row["ci_low"] <= row["score"] + 0.02 and row["ci_high"] >= row["score"] - 0.02 for row in rows)
    cosine, on_other_texts = (
        run("decoder_cosine", side(original, texts), side(noisy(original, 0.6), texts, "b")).table
        for texts in (x, activations(original, 1))
    )
    assert cosine["ci_low"].null_count == cosine["n_documents"].null_count == len(cosine)
    assert cosine["score"] == on_other_texts["score"]
    best = cosine.filter(pc.equal(cosine["rank"], 0))
    assert best["p_value"].null_count == best["floor_score"].null_count == 0


def test_intervals_of_a_correlation_hold_the_truth_where_documents_differ() -> None:
    """Topics: in half of the documents two features fire together, in the others apart; r is 0.5 overall."""
    rng = np.random.default_rng(0)
    n_pairs, held = 60, []
    for number in range(5):
        together_G = rng.random((40, n_pairs)) < 0.5
        a = (rng.random((40, 50, n_pairs)) < 0.2).astype(float)
        apart = (rng.random((40, 50, n_pairs)) < 0.2).astype(float)
        b = np.where(together_G[:, None], a, apart)
        flat_a, flat_b = (csc_array(part.reshape(-1, n_pairs)) for part in (a, b))
        every = np.arange(n_pairs)
        low, high, n = correlation_intervals(
            flat_a, flat_b, (every, every), np.repeat(np.arange(40), 50), number
        )
        held.append((low <= 0.5) & (high >= 0.5))
        assert n == 40
    assert 0.9 <= np.mean(held) <= 0.99
