"""Models made from other models go through the stages; the catalogue says what was done to each."""

from pathlib import Path
from typing import Any

import pytest

from catalog.connection import connect
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES
from tasks.activations.models.source import ModelConfig, weights_digest
from tasks.activations.models.source import model_folder as folder_of
from tasks.dictionaries.base import dictionary_config
from tasks.stages.cache_activations import CacheUnit, cache_activations
from tasks.stages.describe_model import ModelUnit, describe_model
from tasks.stages.load_corpus import CorpusUnit, load_corpus
from tasks.stages.train_dictionary import train_dictionary
from tasks.support.policies import StageContext
from tasks.support.training_units import CachedHookpoint, TrainUnit
from tests.childless import trained_here

HOOKPOINT = "blocks.1.resid_post"
BASE: dict[str, Any] = {"id": "pico-b", "source": "embedded"}
FOLDER = str(folder_of(ModelConfig(**BASE)))
FAMILY = {
    "base": BASE,
    "redrawn": {"id": "redrawn", "source": "reinitialised", "of": BASE, "seed": 3},
    "int8": {"id": "int8", "source": "local", "path": FOLDER, "quantise": "int8", "parent": "pico-b"},
    "step": {"id": "step", "source": "local", "path": FOLDER, "series": {"id": "pico-b", "step": 700}},
}
ACTIVATIONS = ActivationsConfig(hookpoints=(HOOKPOINT,), context_length=64, n_tokens=3_000, eval_share=0.25)
DICTIONARY = {"architecture": "frozen_decoder", "d_sae": 64, "k": 4, "n_tokens": 4_000, "batch_tokens": 256}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    context = StageContext(tmp_path_factory.mktemp("family") / "catalogue", "run-1", device="cpu")
    corpus = load_corpus.fn(context, CorpusUnit(CORPUS_SOURCES["stdlib"].Config(), 0.25))
    for fields in FAMILY.values():
        model = ModelConfig.model_validate(fields)
        described = describe_model.fn(context, ModelUnit(model))
        cached = cache_activations.fn(context, CacheUnit(model, ACTIVATIONS, corpus, described))
        unit = TrainUnit(dictionary_config(DICTIONARY), (CachedHookpoint(cached, HOOKPOINT, model),), None)
        with trained_here():
            train_dictionary.fn(context, unit)
    with connect(Path(context.root)) as connection:
        models = connection.sql("from models").to_arrow_table().to_pylist()
        dictionaries = connection.sql("select alias, architecture from dictionaries").fetchall()
    assert sorted(dictionaries) == sorted(
        (f"{fields['id']}/{HOOKPOINT}/frozen_decoder-w64-k4-s0", "frozen_decoder")
        for fields in FAMILY.values()
    )
    return {row["model_id"]: row for row in models}


def test_each_model_says_what_was_done_to_it(rows: dict[str, dict[str, Any]]) -> None:
    base = rows.pop("pico-b")
    told = ("parent_model_id", "seed", "adapter_digest", "quantisation", "series_id", "series_step")
    assert all(base[name] is None for name in told)
    assert rows["redrawn"]["parent_model_id"] == rows["int8"]["parent_model_id"] == "pico-b"
    assert (rows["redrawn"]["source"], rows["redrawn"]["seed"]) == ("reinitialised", 3)
    assert rows["int8"]["quantisation"].startswith("int8 ")
    assert 0 < rows["int8"]["quantisation_error"] < 1e-3
    assert (rows["step"]["series_id"], rows["step"]["series_step"]) == ("pico-b", 700)
    assert base["weights_digest"] == weights_digest(Path(FOLDER)) == rows["step"]["weights_digest"]
    digests = {row["weights_digest"] for row in (base, rows["redrawn"], rows["int8"])}
    assert len(digests) == 3
    assert {row["tokenizer_digest"] for row in rows.values()} == {base["tokenizer_digest"]}


def test_an_embedded_model_says_its_relatives_without_being_told(tmp_path: Path) -> None:
    context = StageContext(tmp_path / "catalogue", "run-1", device="cpu")
    for name in ("pico-a", "pico-a-tuned", "pico-a-retrained-step-500"):
        describe_model.fn(context, ModelUnit(ModelConfig(id=name, source="embedded")))
    with connect(Path(context.root)) as connection:
        told = connection.sql(
            "select model_id, parent_model_id, series_id, series_step from models"
        ).fetchall()
    assert sorted(told) == [
        ("pico-a", None, None, None),
        ("pico-a-retrained-step-500", None, "pico-a-retrained", 500),
        ("pico-a-tuned", "pico-a", None, None),
    ]
