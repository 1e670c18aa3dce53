"""Features of one model are followed from layer to layer: more of them stay, the closer the layers are."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from flows.members import Trained
from flows.pairs import pipeline_units
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.base import dictionary_config
from tasks.matching.matcher import MatchConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import match_features
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.policies import StageContext
from tasks.support.training_units import CachedHookpoint, TrainUnit
from tests.childless import trained_here

MODEL = ModelConfig(id="pico-a", source="embedded")
LAYERS = [f"blocks.{layer}.resid_post" for layer in range(4)]
CACHING = {"hookpoints": tuple(LAYERS), "context_length": 64, "n_tokens": 30_000, "eval_share": 0.25}
TOPK = {"architecture": "topk", "d_sae": 96, "k": 8, "n_tokens": 90_000, "lr": 0.004, "batch_tokens": 512}
MATCHER = {"matcher": "activation_correlation", "pairs": ["layers"], "n_shifts": 60, "max_segments": 6_000}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], dict[str, Any]]:
    """The summary of the match of every two layers."""
    context = StageContext(tmp_path_factory.mktemp("layers"), "run-1", device="cpu")
    corpus = load_corpus.fn(context, CorpusUnit(CORPUS_SOURCES["stdlib"].Config(), 0.25))
    described = describe_model.fn(context, ModelUnit(MODEL))
    caching = ActivationsConfig.model_validate(CACHING)
    cached = cache_activations.fn(context, CacheUnit(MODEL, caching, corpus, described))
    config = dictionary_config(TOPK)
    with trained_here():
        outcomes = [
            train_dictionary.fn(context, TrainUnit(config, (CachedHookpoint(cached, name, MODEL),)))
            for name in LAYERS
        ]
    trained = [Trained((MODEL,), str(place), config, one) for place, one in enumerate(outcomes)]
    matcher = TypeAdapter(MatchConfig).validate_python(MATCHER)
    places = [outcome.fingerprint for outcome in outcomes]
    found = {}
    for unit in pipeline_units([matcher], trained, Path(context.root)):
        pair = places.index(unit.first.fingerprint), places.index(unit.second.fingerprint)
        found[pair] = match_features.fn(context, unit).facts["summary"]
    return found


def test_every_two_layers_are_compared(scores: dict[tuple[int, int], dict[str, Any]]) -> None:
    assert set(scores) == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_more_features_stay_between_closer_layers(scores: dict[tuple[int, int], dict[str, Any]]) -> None:
    """The best partner elsewhere scores higher, and random directions are not called the same."""
    for first in range(4):
        above = [scores[first, other]["mean_best_score"] for other in range(first + 1, 4)]
        below = [scores[other, first]["mean_best_score"] for other in reversed(range(first))]
        for near, far in [*pairwise(above), *pairwise(below)]:
            assert near > far
    assert min(one["mean_best_score"] - one["floor_mean_best_score"] for one in scores.values()) > 0.1
    assert all(one["floor_share_same"] < 0.02 < 0.05 < one["share_same"] for one in scores.values())
