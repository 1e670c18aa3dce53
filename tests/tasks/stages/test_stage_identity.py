"""Every field of every stage's configuration, changed in turn: what the fingerprint tells apart lands."""

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from catalog.ids import stage_fingerprint
from catalog.ledger import StageOutcome
from flows.graph import NEEDS
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES
from tasks.activations.models.source import ModelConfig, SeriesConfig
from tasks.dictionaries.base import dictionary_config
from tasks.dictionaries.config import EvaluationConfig
from tasks.evaluation.suite import SUITES, AnySuiteConfig
from tasks.matching.matcher import MatchConfig
from tasks.mining.config import MiningConfig
from tasks.observing.config import AssociationsConfig, ModelsComparison
from tasks.stages.associate_labels import AssociateUnit, associate_labels
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.compare_observations import compare_observations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.evaluate_dictionary import EvaluateUnit, evaluate_dictionary
from tasks.stages.evaluate_suite import evaluate_suite
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.match_features import match_features
from tasks.stages.mine_examples import MineUnit, mine_examples
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.compare_units import CompareUnit
from tasks.support.match_units import MatchUnit
from tasks.support.observed import Observed
from tasks.support.policies import StageContext
from tasks.support.suite_units import SuiteRequest, SuiteUnit
from tasks.support.training_units import CachedHookpoint, TrainUnit
from tests.childless import trained_here
from tests.tasks.stages.landed import another, landed

HOOKPOINT = "blocks.1.resid_post"
MODEL = ModelConfig(id="pico-b", source="embedded")
CACHING = {"hookpoints": (HOOKPOINT,), "context_length": 64, "n_tokens": 3_000, "eval_share": 0.25}
MANY_SHORT = {
    "source": "text",
    "path": str(Path(json.__file__).parent / "*.py"),
    "split_on_blank_lines": True,
}
CONFIGS: dict[str, BaseModel] = {
    "corpus": CORPUS_SOURCES["text"].Config.model_validate(MANY_SHORT),
    "model": MODEL,
    "associate": AssociationsConfig(),
    "compare": ModelsComparison(a="left", b="right", max_segments=3_000, n_flips=99, min_documents=2),
    "cache": ActivationsConfig.model_validate(CACHING),
    "evaluate": EvaluationConfig(max_tokens=500, max_control_tokens=500, fidelity_sequences=1),
    "mine": MiningConfig(n_top=2, n_per_band=1, n_random=2, n_neighbour=2),
    "suite": TypeAdapter(AnySuiteConfig).validate_python({"suite": "density_spectrum", "max_tokens": 500}),
    "cosine": TypeAdapter(MatchConfig).validate_python({"matcher": "decoder_cosine"}),
    "correlation": TypeAdapter(MatchConfig).validate_python(
        {"matcher": "activation_correlation", "n_shifts": 20, "max_segments": 200}
    ),
}
OTHER: dict[str, Any] = {
    "hookpoints": ("blocks.0.resid_post",),
    "packing": "per_document",
    "long_documents": "truncate",
    "bos": "keep",
    "dtype": "float32",
    "split": "train",
    "labels": ("file", "folder"),
    "path": str(Path(textwrap.__file__)),
}
NAMES = ("suite", "matcher", "source", "kind")
SOURCES = ("id", "path", "revision", "of", "seed", "adapter", "hookpoints")
"""Settings of a model that name another one, and hookpoints, which its description does not depend on."""
MODELS = {
    "dtype": "bfloat16",
    "parent": "pico-a",
    "quantise": "int8",
    "series": SeriesConfig(id="steps", step=3),
}
CHOOSING = ("pairs", "with_")
"""Settings that choose pairs and do not affect the match of a pair."""
CASES = [
    pytest.param(stage, field, id=f"{stage}-{field}")
    for stage, config in CONFIGS.items()
    for field in type(config).model_fields
    if field not in NAMES + CHOOSING + (SOURCES if stage == "model" else ())
]


class Bench:
    """A catalogue with two tiny dictionaries, and every stage that follows."""

    def __init__(self, root: Path) -> None:
        self.context = StageContext(root, "run-1", device="cpu")
        self.corpus = self.run("corpus", CONFIGS["corpus"])
        self.described = describe_model.fn(self.context, ModelUnit(MODEL))
        cached = self.run("cache", CONFIGS["cache"])
        self.fingerprints = {cached.fingerprint}
        with trained_here():
            self.trained, self.second = (
                train_dictionary.fn(
                    self.context, TrainUnit(config, (CachedHookpoint(cached, HOOKPOINT, MODEL),), None)
                )
                for config in (
                    dictionary_config(
                        {"architecture": "topk", "d_sae": 32, "k": 4, "n_tokens": 2_000, "seed": seed}
                    )
                    for seed in (0, 1)
                )
            )

    def run(self, stage: str, config: Any) -> StageOutcome:
        """One stage with a configuration."""
        if stage == "corpus":
            return load_corpus.fn(self.context, CorpusUnit(config, 0.25))
        if stage == "model":
            return describe_model.fn(self.context, ModelUnit(config))
        if stage == "cache":
            unit = CacheUnit(MODEL, config, self.corpus, self.described)
            return cache_activations.fn(self.context, unit)
        if stage == "evaluate":
            return evaluate_dictionary.fn(self.context, EvaluateUnit(config, (MODEL,), self.trained))
        if stage == "mine":
            return mine_examples.fn(self.context, MineUnit(config, (MODEL,), self.trained))
        if stage == "suite":
            return evaluate_suite.fn(self.context, SuiteUnit(config, (MODEL,), self.trained))
        if stage in ("associate", "compare"):
            return self.run_observed(config)
        return match_features.fn(self.context, MatchUnit(config, self.trained, self.second))

    def run_observed(self, config: Any) -> StageOutcome:
        """A stage that reads what was mined; both sides of the comparison are the same set."""
        one = Observed(self.trained, self.run("mine", CONFIGS["mine"]))
        if isinstance(config, AssociationsConfig):
            return associate_labels.fn(self.context, AssociateUnit(config, one))
        return compare_observations.fn(self.context, CompareUnit(config, one, one))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("identity") / "catalogue")


@pytest.mark.parametrize(("stage", "field"), CASES)
def test_a_changed_field_is_computed_and_lands(bench: Bench, stage: str, field: str) -> None:
    config = CONFIGS[stage]
    other = MODELS[field] if stage == "model" else OTHER.get(field, another(getattr(config, field)))
    changed = config.model_copy(update={field: other})
    outcome = bench.run(stage, changed)
    assert outcome.recomputed
    assert outcome.fingerprint not in bench.fingerprints
    bench.fingerprints.add(outcome.fingerprint)
    assert sum(outcome.rows.values()) > 0
    assert landed(bench.context.root, outcome) == outcome.rows


@pytest.mark.parametrize("stage", CONFIGS)
def test_going_back_to_a_configuration_lands_again_and_is_then_found(bench: Bench, stage: str) -> None:
    outcome = bench.run(stage, CONFIGS[stage])
    assert landed(bench.context.root, outcome) == outcome.rows
    assert not bench.run(stage, CONFIGS[stage]).recomputed


def test_what_chooses_pairs_finds_the_match_of_a_pair(bench: Bench) -> None:
    bench.run("cosine", CONFIGS["cosine"])
    chosen = CONFIGS["cosine"].model_copy(update={"pairs": ("layers",), "with_": ("*",)})
    assert not bench.run("cosine", chosen).recomputed


def test_every_stage_with_settings_of_its_own_is_here() -> None:
    """Labels, judges, floors and training have their own tests; observing has no settings."""
    here = {
        *("load_corpus", "describe_model", "cache_activations", "evaluate_dictionary", "evaluate_suite"),
        *("mine_examples", "match_features", "associate_labels", "compare_observations"),
    }
    elsewhere = {"explain_features", "score_explanations", "train_dictionary", "observe_dictionary"}
    elsewhere |= {"calibrate_judge", "measure_floors"}
    assert here | elsewhere == set(NEEDS)
    assert len(CONFIGS) == len(here) + 1, "two matchers"


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("name", SUITES.names())
def test_every_setting_of_a_suite_makes_another_unit(bench: Bench, name: str) -> None:
    config = SUITES[name].Config.model_construct(suite=name, label="file")
    fingerprints = set()
    fields = [field for field in type(config).model_fields if field != "suite"]
    for field in ("suite", *fields):
        value = getattr(config, field, None)
        changed = config.model_copy(update={} if field == "suite" else {field: another(value)})
        key = SuiteRequest(bench.context, SuiteUnit(changed, (MODEL,), bench.trained)).key
        fingerprints.add(stage_fingerprint(key.stage, key.version, key.config, key.parents))
    assert len(fingerprints) == 1 + len(fields)
