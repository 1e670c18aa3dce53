"""Heads and sources of features on attn_z: golden shares, exact attribution, planted heads and offsets."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from catalog.schemas import TABLES
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.attention_patterns import AttentionParts, attention_parts
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config
from tasks.mining.direct_feature_attribution import (
    SourceStatistics,
    attention_columns,
    direct_attribution,
    head_shares,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "decompositions.json").read_text())


def constant_part(dictionary: Dictionary) -> torch.Tensor:
    """The part of the pre-activations that no source contributes: ``b_enc - centre W_enc``, (L,)."""
    centre = dictionary.centre()
    return dictionary.b_enc if centre is None else dictionary.b_enc - centre @ dictionary.W_enc


def make_dictionary(d_in: int, **changes: Any) -> Any:
    fields = {"architecture": "topk", "k": 4, "d_sae": 40, "n_tokens": 1}
    dictionary = build_dictionary(dictionary_config({**fields, **changes}), d_in).requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for name in ("b_enc", "b_dec"):
        parameter = getattr(dictionary, name)
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return dictionary


def test_shares_of_heads_are_the_golden_ones() -> None:
    vector = GOLDEN["G19_head_attr"]
    row_LD = torch.tensor([vector["W_dec_row"]], dtype=torch.float64)
    shares = head_shares(row_LD, row_LD.shape[1] // vector["d_head"])
    assert shares[0].tolist() == pytest.approx(vector["share"], abs=1e-9)


@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_contributions_of_all_sources_and_the_constant_are_the_pre_activation(n_groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    patterns_BHTS = torch.rand(1, 4, 9, 9, generator=generator).tril()
    patterns_BHTS /= patterns_BHTS.sum(dim=3, keepdim=True)
    values_BSGd = torch.randn(1, 9, n_groups, 6, generator=generator)
    parts = AttentionParts(patterns_BHTS, values_BSGd)
    dictionary = make_dictionary(24)
    pre_TL = dictionary.pre_acts(parts.z[0])
    features_E, destinations_E = torch.tensor([3, 3, 17, 39]), torch.tensor([0, 8, 5, 8])
    by_head_EHS = direct_attribution(
        patterns_BHTS[0], values_BSGd[0], dictionary.W_enc.T[features_E], destinations_E
    )
    assert by_head_EHS.shape == (4, 4, 9)
    total_E = by_head_EHS.sum(dim=(1, 2)) + constant_part(dictionary)[features_E]
    torch.testing.assert_close(total_E, pre_TL[destinations_E, features_E], atol=1e-5, rtol=1e-5)
    assert by_head_EHS[0, :, 1:].abs().max() == 0, "a token reads nothing from later ones"


def test_attribution_is_exact_on_a_real_model(
    language_model: LanguageModel, activation_set: ActivationSet
) -> None:
    dictionary = None
    for row in activation_set.sequence_rows("train")[:2]:
        parts = attention_parts(language_model, 1, activation_set.tokens, np.array([row]))
        dictionary = dictionary or make_dictionary(parts.z.shape[2])
        pre_TL = dictionary.pre_acts(parts.z[0])
        destinations_E = torch.arange(0, 64, 7)
        for feature in (0, 21):
            weights_ED = dictionary.W_enc.T[feature].expand(len(destinations_E), -1)
            by_head_EHS = direct_attribution(
                parts.patterns_BHTS[0], parts.values_BSGd[0], weights_ED, destinations_E
            )
            total_E = by_head_EHS.sum(dim=(1, 2)) + constant_part(dictionary)[feature]
            torch.testing.assert_close(total_E, pre_TL[destinations_E, feature], atol=1e-5, rtol=1e-5)


def test_the_offset_is_that_of_most_activation_and_the_entropy_a_mean() -> None:
    statistics = SourceStatistics(4)
    sources_ES = torch.tensor([[0.0, 5.0, -9.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 2.0]])
    destinations_E, values_E = torch.tensor([2, 3, 3]), torch.tensor([3.0, 1.0, 1.0])
    statistics.add(torch.tensor([1, 1, 2]), values_E, destinations_E, sources_ES)
    columns = statistics.columns()
    assert columns["dfa_offset"] == [None, -1, 0, None]
    assert columns["dfa_entropy"] == [None, pytest.approx(math.log(4) / 4), pytest.approx(0.0), None]
    for weight, expected in ((2.0, -1), (0.5, -3)):  # of equal weight the nearer, then the heavier
        statistics.add(torch.tensor([1]), torch.tensor([weight]), torch.tensor([3]), sources_ES[1:2])
        assert statistics.columns()["dfa_offset"][1] == expected
    assert SourceStatistics(2).columns() == {"dfa_offset": [None, None], "dfa_entropy": [None, None]}


def test_columns_of_a_dictionary_on_attn_z_fit_the_table(
    language_model: LanguageModel, activation_set: ActivationSet
) -> None:
    n_heads = language_model.model.config.num_attention_heads
    width = attention_parts(language_model, 1, activation_set.tokens, np.array([0])).z.shape[2]
    dictionary = make_dictionary(width)
    columns = attention_columns(
        dictionary, language_model, "blocks.1.attn_z", activation_set.tokens, n_sequences=3
    )
    schema = TABLES["features"].schema
    for name, values in columns.items():
        assert len(pa.array(values, schema.field(name).type)) == 40
    shares = np.array(columns["head_shares"])
    assert shares.shape == (40, n_heads)
    assert shares.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    assert all(offset is None or -63 <= offset <= 0 for offset in columns["dfa_offset"])
    assert any(offset is not None for offset in columns["dfa_offset"])
    assert attention_columns(dictionary, language_model, "blocks.1.attn_out", activation_set.tokens) == {}
    imported = make_dictionary(width, token_norm="layer_norm")
    assert set(attention_columns(imported, language_model, "blocks.1.attn_z", activation_set.tokens)) == {
        "head_shares"
    }


def test_a_feature_of_the_previous_token_is_seen_as_one(
    language_model: LanguageModel, activation_set: ActivationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention that looks one token back in head 2 alone, and a feature that reads head 2 alone."""
    n_tokens, n_heads = activation_set.context_length, language_model.model.config.num_attention_heads
    patterns_BHTS = torch.eye(n_tokens).expand(1, n_heads, -1, -1).clone()
    patterns_BHTS[0, 2] = torch.eye(n_tokens).roll(-1, dims=1)
    values_BSGd = torch.ones(1, n_tokens, n_heads, 8)
    monkeypatch.setattr(
        "tasks.mining.direct_feature_attribution.attention_parts",
        lambda *_args: AttentionParts(patterns_BHTS, values_BSGd),
    )
    dictionary = make_dictionary(n_heads * 8, d_sae=2, k=2)
    direction_HD = torch.zeros(2, n_heads, 8)
    direction_HD[0, 2], direction_HD[1, 0] = 1.0, 1.0
    dictionary.W_enc.copy_(direction_HD.flatten(1).T)
    dictionary.W_dec.copy_(torch.nn.functional.normalize(direction_HD.flatten(1), dim=1))
    dictionary.b_enc.zero_()
    dictionary.b_dec.zero_()
    columns = attention_columns(dictionary, language_model, "blocks.1.attn_z", activation_set.tokens, 1)
    assert columns["dfa_offset"] == [-1, 0]
    assert columns["dfa_entropy"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert [row.index(max(row)) for row in columns["head_shares"]] == [2, 0]
