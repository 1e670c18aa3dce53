"""The graph of near features: figures against plain numpy, flags on planted and shuffled firings."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from catalog.schemas import TABLES
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary
from tasks.mining.config import MiningConfig
from tasks.mining.context_pairs import ContextPairs, Cooccurrence
from tasks.mining.miner import mine
from tasks.mining.nearest import Coactivation, Nearest
from tasks.mining.neighbours import LEAST_COSINE, nearest_cosine_of_random, neighbour_rows
from tasks.mining.pairs import pair_firings

N_TOKENS = 4_000
RNG = np.random.default_rng


def coactivation_of(codes_NL: np.ndarray, n_stretches: int = 3) -> Coactivation:
    coactivation = Coactivation(codes_NL.shape[1], len(codes_NL))
    for rows in np.array_split(np.arange(len(codes_NL)), n_stretches):
        feature, token = np.nonzero(codes_NL[rows].T)
        coactivation.add(feature, rows[token] + 1_000, codes_NL[rows][token, feature])
    return coactivation


def test_counts_and_correlations_are_those_of_the_dense_codes() -> None:
    codes = RNG(0).exponential(size=(500, 8)) * (RNG(1).random((500, 8)) < 0.2)
    codes[:, 3] = 0
    codes[:, 5] = codes[:, 4] * 2
    first, second = (np.array(pair) for pair in zip((0, 1), (1, 0), (4, 5), (2, 3), (6, 7), strict=True))
    found = pair_firings(coactivation_of(codes.astype(np.float32)), first, second)
    for place, (a, b) in enumerate(zip(first, second, strict=True)):
        fires = codes[:, [a, b]] > 0
        assert found.n_both_P[place] == fires.all(axis=1).sum()
        assert found.jaccard_P[place] == pytest.approx(fires.all(axis=1).sum() / fires.any(axis=1).sum())
        if fires.any(axis=0).all():
            expected = np.corrcoef(codes[:, a], codes[:, b])[0, 1]
            assert found.pearson_P[place] == pytest.approx(expected, abs=1e-5)
    assert np.isnan(found.pearson_P[3]), "a feature that does not fire has no correlation"
    assert found.pearson_P[2] == pytest.approx(1.0)


def documents_of(fires_DL2: np.ndarray) -> ContextPairs:
    """Two contexts of each document, at positions that no one draws in order."""
    n_documents = len(fires_DL2)
    return documents_of_chunks(fires_DL2, RNG(5).permutation(2 * n_documents).reshape(-1, 2) * 16)


def documents_of_chunks(fires_DL2: np.ndarray, chunks: np.ndarray) -> ContextPairs:
    """The same at given positions, read in several stretches."""
    contexts = ContextPairs(chunks, fires_DL2.shape[1])
    document, feature, which = np.nonzero(fires_DL2)
    position = chunks[document, which]
    for first in range(0, int(chunks.max()) + 1, 800):
        inside = (position >= first) & (position < first + 800)
        contexts.add(feature[inside], position[inside], first, first + 800)
    return contexts


def lifts(fires_DL2: np.ndarray, a: int = 0, b: int = 1) -> Cooccurrence:
    return documents_of(fires_DL2).cooccurrence(np.array([a]), np.array([b]))


def topical(n_documents: int = 600) -> np.ndarray:
    """Two features of the same tenth of the documents, each in a half of the contexts, on their own."""
    about = RNG(2).random(n_documents) < 0.1
    return about[:, None, None] & (RNG(3).random((n_documents, 2, 2)) < 0.5)


def test_features_of_the_same_documents_are_found_and_shuffled_documents_are_not() -> None:
    planted = topical()
    found = lifts(planted)
    assert found.document_lift_P[0] > 4
    assert found.p_P[0] < 1e-4
    shuffled = planted.copy()
    shuffled[:, 1] = shuffled[RNG(4).permutation(len(planted)), 1]
    assert lifts(shuffled).document_lift_P[0] < 2.5
    assert lifts(shuffled).p_P[0] > 0.05


def test_features_of_the_same_contexts_share_no_documents_beyond_them() -> None:
    fires = np.repeat(RNG(6).random((600, 1, 2)) < 0.1, 2, axis=1)
    fires[:, 1] |= RNG(7).random((600, 2)) < 0.02
    found = lifts(fires)
    assert found.context_lift_P[0] > 5
    assert found.p_P[0] > 0.05 or np.isnan(found.p_P[0])


def test_the_document_lift_is_its_formula() -> None:
    fires = RNG(8).random((90, 2, 2)) < 0.4
    only = fires & ~fires[:, :, ::-1]
    f, g = only[:, 0], only[:, 1]
    apart = ((f[:, 0] & g[:, 1]) | (f[:, 1] & g[:, 0])).sum()
    expected = (f[:, 0].sum() * g[:, 1].sum() + f[:, 1].sum() * g[:, 0].sum()) / 90
    assert lifts(fires).document_lift_P[0] == pytest.approx(apart / expected)
    assert lifts(fires, 1, 0).document_lift_P[0] == pytest.approx(apart / expected)


def test_independent_features_in_bursts_are_called_at_most_as_often_as_promised() -> None:
    """Each feature has documents of its own and fires in runs there: no pair has anything in common."""
    n_features = 60
    about = RNG(9).random((800, n_features, 1)) < RNG(10).uniform(0.02, 0.3, (1, n_features, 1))
    contexts = documents_of(about & (RNG(11).random((800, n_features, 2)) < 0.7))
    first, second = np.triu_indices(n_features, 1)
    p = contexts.cooccurrence(first, second).p_P
    assert len(p) == 1_770
    assert (p <= 0.05).mean() <= 0.05
    assert (p <= 0.05).mean() > 0.001, "a test that calls nothing could not fail"


def graph(codes_NL: np.ndarray, cosine: float = 0.6, null: float | None = 0.2) -> dict[tuple[int, int], str]:
    """Geometry flags where features 2i and 2i + 1 have the given decoder cosine."""
    n_features = codes_NL.shape[1]
    w_dec = torch.eye(n_features)
    for odd in range(1, n_features, 2):
        w_dec[odd, odd - 1], w_dec[odd, odd] = cosine, (1 - cosine**2) ** 0.5
    partner = (np.arange(n_features) ^ 1)[:, None].astype(np.int32)
    near = Nearest(partner, np.full(partner.shape, cosine))
    nothing = ContextPairs(np.zeros((0, 2), np.int64), n_features)
    coactivation = coactivation_of(codes_NL.astype(np.float32))
    dictionary: Any = SimpleNamespace(W_dec=w_dec)
    survey: Any = SimpleNamespace(coactivation=coactivation, contexts=nothing)
    rows = neighbour_rows(dictionary, near, coactivation.nearest(1), survey, null).to_pylist()
    assert {row["n_documents"] for row in rows} == {0}
    assert {row["confounded"] for row in rows} == {None}
    return {(r["feature_index"], r["neighbour_index"]): r["geometry"] for r in rows if r["geometry"]}


def planted_codes() -> np.ndarray:
    """Features 0, 1 fire together; 2, 3 avoid each other; 4, 5 are independent."""
    draw = RNG(12).random((N_TOKENS, 6))
    fires = draw < 0.12
    fires[:, 1] = fires[:, 0] & (draw[:, 1] < 0.8)
    fires[:, 3] &= ~fires[:, 2]
    return fires * RNG(13).exponential(size=fires.shape)


def test_geometry_is_flagged_where_it_is_planted() -> None:
    assert graph(planted_codes()) == {
        (0, 1): "constructive",
        (1, 0): "constructive",
        (2, 3): "interference",
        (3, 2): "interference",
    }


@pytest.mark.parametrize(
    ("cosine", "null"), [(0.6, 0.7), (0.6, None), (LEAST_COSINE - 0.02, 0.0), (-0.6, 0.2)]
)
def test_no_flag_without_a_cosine_above_its_null(cosine: float, null: float | None) -> None:
    assert not graph(planted_codes(), cosine, null)


def test_shuffled_tokens_have_no_geometry() -> None:
    codes = planted_codes()
    shuffled = np.stack([RNG(20 + f).permutation(codes[:, f]) for f in range(codes.shape[1])], axis=1)
    assert not graph(shuffled)


def set_of(x_STD: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(
        d_in=x_STD.shape[2],
        context_length=x_STD.shape[1],
        tokens=SimpleNamespace(valid=np.ones(x_STD.shape[:2], bool)),
        n_sequences=len(x_STD),
        read=lambda rows: x_STD[rows],
    )


def test_the_null_follows_the_covariance() -> None:
    """In a round space the nearest of F directions is at the root of 2 ln F / d, in a flat one nearer."""
    dictionary = SimpleNamespace(reconstructs_input=True, d_sae=500, W_dec=torch.zeros(500, 64))
    x = RNG(14).normal(size=(30, 50, 64)).astype(np.float32)
    of_round = nearest_cosine_of_random(dictionary, set_of(x + 3), 0)  # type: ignore[arg-type]
    of_flat = nearest_cosine_of_random(dictionary, set_of(x * np.exp(-np.arange(64) / 8)), 0)  # type: ignore[arg-type]
    assert of_round == pytest.approx(np.sqrt(2 * np.log(500) / 64), abs=0.12)
    assert of_flat is not None
    assert of_flat > of_round + 0.2
    of_transcoder = SimpleNamespace(reconstructs_input=False, d_sae=500, W_dec=torch.zeros(500, 64))
    assert nearest_cosine_of_random(of_transcoder, set_of(x), 0) is None  # type: ignore[arg-type]


def test_contexts_go_on_from_a_pass_over_fewer_documents() -> None:
    """The later pass draws a part of the earlier contexts, and others that it reads itself."""
    fires = RNG(15).random((300, 5, 2)) < 0.3
    whole = documents_of(fires)
    chunks, _ = whole.numbers()
    n_earlier = 200
    earlier, later = ContextPairs(chunks[:n_earlier], 5), ContextPairs(chunks[50:], 5)
    for contexts, documents in ((earlier, np.arange(n_earlier)), (later, np.arange(n_earlier, 300))):
        document, feature, which = np.nonzero(fires[documents])
        contexts.add(feature, chunks[documents][document, which], 0, 32 * 300)
    later.take(*earlier.numbers())
    expected = documents_of_chunks(fires[50:], chunks[50:])
    assert (later.numbers()[1] == expected.numbers()[1]).all()
    assert expected.numbers()[1].any()


@pytest.mark.parametrize("shard_tokens", [96, 65_536])
def test_mining_writes_the_graph_the_same_for_every_shard_size(
    planted_set: ActivationSet,
    identity: Callable[[int], Dictionary],
    documents: pa.Table,
    tmp_path: Path,
    shard_tokens: int,
) -> None:
    def rows_of(tokens: int) -> pa.Table:
        config = MiningConfig(window_tokens=8, tokens_before_peak=5, chunk_tokens=16, shard_tokens=tokens)
        return mine(identity(12), planted_set, documents, None, config, tmp_path / str(tokens))

    mined, other = rows_of(shard_tokens), rows_of(1_000)
    rows = mined.neighbours
    assert rows.equals(other.neighbours)
    spec = TABLES["feature_neighbours"]
    assert [name for name in spec.schema.names if name in rows.column_names] == rows.column_names
    keys = list(zip(rows["feature_index"].to_pylist(), rows["neighbour_index"].to_pylist(), strict=True))
    assert keys == sorted(set(keys))
    for feature in mined.features.to_pylist():
        near = feature["nearest_by_decoder"] + feature["nearest_by_coactivation"]
        partners = {b for a, b in keys if a == feature["feature_index"]}
        assert partners == {n["feature_index"] for n in near}
    jaccard = {(r["feature_index"], r["neighbour_index"]): r["jaccard"] for r in rows.to_pylist()}
    for near in mined.features["nearest_by_coactivation"].to_pylist()[2]:
        assert jaccard[2, near["feature_index"]] == pytest.approx(near["score"])
    assert 20 < rows["n_documents"][0].as_py() < 60, "documents with two contexts of sixteen tokens"
