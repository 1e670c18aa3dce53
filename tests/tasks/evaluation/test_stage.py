"""The stage on a real catalogue: a trained dictionary, its suites, what lands and what a rerun does."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from catalog.connection import connect
from catalog.errors import UserError
from catalog.exports.saebench import write_saebench
from catalog.ledger import StageOutcome
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.base import dictionary_config
from tasks.evaluation.suite import AnySuiteConfig
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.evaluate_suite import evaluate_suite
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.policies import StageContext
from tasks.support.suite_units import SuiteRequest, SuiteUnit
from tasks.support.training_units import CachedHookpoint, TrainUnit
from tests.childless import trained_here

HOOKPOINT = "blocks.1.resid_post"
MODEL = ModelConfig(id="pico-a", source="embedded")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> StageContext:
    return StageContext(root=tmp_path_factory.mktemp("suites") / "catalogue", run_id="run-1", device="cpu")


@pytest.fixture(scope="module")
def trained(context: StageContext) -> StageOutcome:
    corpus = load_corpus.fn(context, CorpusUnit(CORPUS_SOURCES["stdlib"].Config(), 0.25))
    described = describe_model.fn(context, ModelUnit(MODEL))
    activations = ActivationsConfig(
        hookpoints=("blocks.0.resid_post", HOOKPOINT), context_length=64, n_tokens=12_000, eval_share=0.25
    )
    cached = cache_activations.fn(context, CacheUnit(MODEL, activations, corpus, described))
    config = dictionary_config({"architecture": "topk", "d_sae": 64, "k": 8, "n_tokens": 8_000})
    unit = TrainUnit(config, (CachedHookpoint(cached, HOOKPOINT, MODEL),), None)
    with trained_here():
        return train_dictionary.fn(context, unit)


def suite(name: str, **fields: Any) -> Any:
    return TypeAdapter(AnySuiteConfig).validate_python({"suite": name, **fields})


def rows(context: StageContext, metric: str) -> list[dict[str, Any]]:
    with connect(context.root) as connection:
        query = "from dictionary_metrics where metric = $metric order by variant"
        return list(connection.sql(query, params={"metric": metric}).to_arrow_table().to_pylist())


def test_suites_land_as_metrics_and_are_found_again(context: StageContext, trained: StageOutcome) -> None:
    twin = replace(trained, fingerprint="0" * 64)
    unit = SuiteUnit(suite("seed_consistency"), (MODEL,), trained, (twin,))
    first = evaluate_suite.fn(context, unit)
    assert first.recomputed
    assert first.facts["headline"]["seed_mmcs"] == pytest.approx(1, abs=1e-5), "the same weights"
    (row,) = rows(context, "seed_mmcs")
    assert (row["dictionary_id"], row["split"]) == (trained.facts["dictionary_id"], "eval")
    assert row["value"] > json.loads(row["control"])["random"]
    assert not evaluate_suite.fn(context, unit).recomputed
    alone = evaluate_suite.fn(context, replace(unit, siblings=()))
    assert alone.recomputed, "the siblings are part of what is computed"
    (row,) = rows(context, "seed_mmcs")
    assert row["value"] is None


def test_labels_and_texts_come_from_the_corpus(context: StageContext, trained: StageOutcome) -> None:
    probing = suite("sparse_probing", label="kind", k=(1,), min_documents=2)
    letters = suite("first_letter", max_main=2, max_words=600, min_tokens=5)
    for config in (probing, letters):
        evaluate_suite.fn(context, SuiteUnit(config, (MODEL,), trained))
    (probed,) = rows(context, "sparse_probe_accuracy")
    assert probed["variant"] == "kind:k1"
    assert probed["value"] is not None or "fewer than two values" in probed["note"]
    found = {row["variant"]: row for row in rows(context, "absorption_fraction")}
    assert found[""]["value"] is not None
    assert len(found) > 5, "one row per letter beside the mean"


def test_two_suites_do_not_take_each_others_rows(context: StageContext, trained: StageOutcome) -> None:
    for name in ("density_spectrum", "sequence_error"):
        evaluate_suite.fn(context, SuiteUnit(suite(name), (MODEL,), trained))
    assert len(rows(context, "density_spectrum")) == 13
    (special,) = rows(context, "mse_special")
    assert special["value"] is None
    assert "special token" in special["note"]


def test_the_layers_of_the_same_caching_are_probed(context: StageContext, trained: StageOutcome) -> None:
    config = suite("layer_decodability", max_tokens=4_000, max_features=16, min_firing=4)
    first = evaluate_suite.fn(context, SuiteUnit(config, (MODEL,), trained))
    assert first.facts["headline"]["decodable_earlier"] is not None
    with connect(context.root) as connection:
        probed = connection.sql("from decodability").to_arrow_table().to_pylist()
    assert {(row["hookpoint"], row["depth"], row["is_own"]) for row in probed} == {
        ("blocks.0.resid_post", 0, False),
        (HOOKPOINT, 1, True),
    }
    assert {row["dictionary_id"] for row in probed} == {trained.facts["dictionary_id"]}
    assert 0 < len(probed) <= 32
    assert not evaluate_suite.fn(context, SuiteUnit(config, (MODEL,), trained)).recomputed


def test_without_explanations_no_feature_counts_as_labelled(
    context: StageContext, trained: StageOutcome
) -> None:
    unit = SuiteUnit(suite("labelled_latents", label="kind", min_documents=2), (MODEL,), trained)
    evaluate_suite.fn(context, unit)
    (row,) = rows(context, "accuracy_kept_area")
    assert row["value"] is None
    request = SuiteRequest(context, unit)
    with_labels = SuiteRequest(context, unit)
    with_labels.__dict__["labelled"] = frozenset({3})
    assert request.key.config != with_labels.key.config, "new labels are measured again"


def test_the_catalogue_exports_what_was_measured(
    context: StageContext, trained: StageOutcome, tmp_path: Path
) -> None:
    with connect(context.root) as connection:
        paths = write_saebench(context.root, connection, trained.facts["dictionary_id"], tmp_path)
    core = json.loads(paths[0].read_text())
    assert core["sae_cfg_dict"]["d_sae"] == 64
    assert core["sae_cfg_dict"]["metadata"]["model_name"] == "pico-a"


def test_an_unknown_label_stores_nothing(context: StageContext, trained: StageOutcome) -> None:
    unit = SuiteUnit(suite("sparse_probing", label="colour"), (MODEL,), trained)
    with pytest.raises(UserError, match="no label 'colour'; its label columns are kind, package"):
        evaluate_suite.fn(context, unit)
    assert [row["variant"] for row in rows(context, "sparse_probe_accuracy")] == ["kind:k1"]
