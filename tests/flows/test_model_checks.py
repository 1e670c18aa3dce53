"""A model that cannot do what is asked stops every flow before anything is computed, in one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.connection import connect
from catalog.errors import UserError
from flows.backfill import backfill
from flows.config import load_pipeline
from flows.evaluate import evaluate
from flows.import_dictionary import import_dictionary
from flows.match_models import match_models
from flows.nightly import nightly
from flows.preflight import check_before, check_models
from flows.reexplain import reexplain
from tasks.activations.models.source import ModelConfig, model_folder

SAELENS = Path(__file__).resolve().parents[1] / "golden" / "formats" / "saelens" / "topk"
PIPELINE = """
name: broken
corpus: {{source: stdlib}}
models: [{{id: quantised, source: local, path: {path}}}]
activations: {{hookpoints: [blocks.0.resid_post], context_length: 32, n_tokens: 1000}}
dictionaries: [{{architecture: topk, expansion_factor: 2, k: 4, n_tokens: 1000}}]
"""
FLOWS: dict[str, Callable[[str, str], object]] = {
    "nightly": lambda pipeline, root: nightly.fn(pipeline, root),
    "backfill": lambda pipeline, root: backfill.fn([pipeline], root),
    "reexplain": lambda pipeline, root: reexplain.fn(pipeline, root),
    "match-models": lambda pipeline, root: match_models.fn(pipeline, root),
    "evaluate": lambda pipeline, root: evaluate.fn(pipeline, root),
    "import-dictionary": lambda pipeline, root: import_dictionary.fn(
        "saelens", str(SAELENS), pipeline, hookpoint="blocks.0.resid_post", catalogue=root
    ),
}


@pytest.fixture
def pipeline(tmp_path: Path) -> str:
    """A pipeline whose model is quantised in a way that no stage can read."""
    model = shutil.copytree(model_folder(ModelConfig(id="pico-a", source="embedded")), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config |= {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (model / "config.json").write_text(json.dumps(config))
    path = tmp_path / "broken.yaml"
    path.write_text(PIPELINE.format(path=model))
    return str(path)


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_looks_into_its_models_first(pipeline: str, tmp_path: Path, name: str) -> None:
    root = tmp_path / "catalogue"
    with pytest.raises(UserError, match="gptq") as said:
        FLOWS[name](pipeline, str(root))
    assert "\n" not in str(said.value)
    with connect(root) as connection:
        runs = connection.execute("select state, error from runs").fetchall()
        n_stages = connection.execute("select count(*) from stage_runs").fetchall()
    assert [state for state, _ in runs] == ["failed"]
    assert "gptq" in runs[0][1]
    assert n_stages == [(0,)], "nothing was computed, the corpus neither"


FAMILY = """
name: family
corpus: {{source: stdlib}}
models:
- {{id: pico-a, source: embedded}}
- {other}
activations: {{hookpoints: [blocks.0.resid_post], context_length: 32, n_tokens: 1000}}
dictionaries: [{{architecture: topk, expansion_factor: 2, k: 4, n_tokens: 1000}}]
"""


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("{id: pico-b, source: embedded, parent: pico-z}", "its parent 'pico-z' is neither in the pipeline"),
        ("{id: drawn, source: reinitialised, of: pico-z, seed: 0}", "is of 'pico-z'; models: pico-a, drawn"),
        ("{id: drawn, source: reinitialised, of: pico-a}", "'of' and 'seed' belong to the source"),
        ("{id: pico-b, source: embedded, quantise: int2}", "Input should be 'int8' or 'int4'"),
        ("{id: pico-b, source: embedded, adapter: /none}", "give its folder as source local"),
        ("{id: pico-b, source: embedded, series: {id: x, step: -1}}", "greater than or equal to 0"),
        (
            "{id: pico-a-retrained-step-3, source: embedded}",
            "'pico-a-retrained-step-3' does not exist.* pico-a-retrained-step-250, ",
        ),
        ("{id: pico-a-tuned, source: embedded, parent: pico-b}", "was tuned from 'pico-a': leave out"),
        (
            "{id: pico-a-retrained-step-250, source: embedded, series: {id: pico-a, step: 250}}",
            "is step 250 of 'pico-a-retrained': leave out",
        ),
    ],
)
def test_a_relative_that_is_not_there_is_one_sentence(tmp_path: Path, other: str, sentence: str) -> None:
    path = tmp_path / "family.yaml"
    path.write_text(FAMILY.format(other=other))
    with pytest.raises(UserError, match=sentence) as said:
        check_models(load_pipeline(str(path)), tmp_path / "catalogue")
    assert "\n" not in str(said.value)
    assert not (tmp_path / "catalogue").exists()


@pytest.mark.parametrize(
    ("asks", "sentence"),
    [
        (
            "score: [{scorer: surprisal, model: ./nowhere}]",
            "model folder nowhere does not exist: check 'model'",
        ),
        ("score: [{scorer: detection, endpoint: judge}]", "no endpoint profile 'judge'"),
        ("explain: [{explainer: contexts, endpoint: judge}]", "no endpoint profile 'judge'"),
    ],
)
def test_labels_without_their_model_are_one_sentence_before_anything_runs(
    tmp_path: Path, asks: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "family.yaml"
    path.write_text(FAMILY.format(other="{id: pico-b, source: embedded}") + asks)
    stages = frozenset({"explain_features", "score_explanations"})
    with pytest.raises(UserError, match=sentence) as said:
        check_before(load_pipeline(str(path)), tmp_path / "catalogue", stages)  # type: ignore[arg-type]
    assert "\n" not in str(said.value)
    check_before(load_pipeline(str(path)), tmp_path / "catalogue", frozenset())
    assert not (tmp_path / "catalogue").exists()


def test_relatives_of_the_pipeline_are_found(tmp_path: Path) -> None:
    path = tmp_path / "family.yaml"
    other = "{id: drawn, source: reinitialised, of: pico-a, seed: 0, parent: pico-a}"
    path.write_text(FAMILY.format(other=other))
    config = load_pipeline(str(path))
    check_models(config, tmp_path / "catalogue")
    assert config.models[1].of == config.models[0]


def test_an_embedded_parent_need_not_be_there_but_its_id_is_not_for_another_model(tmp_path: Path) -> None:
    path, folder = tmp_path / "family.yaml", model_folder(ModelConfig(id="pico-a", source="embedded"))
    family = FAMILY.replace("id: pico-a,", "id: pico-b,")
    for stated in ("", ", parent: pico-a"):
        tuned = f"{{id: pico-a-tuned, source: embedded{stated}}}"
        path.write_text(family.format(other=tuned))
        check_models(load_pipeline(str(path)), tmp_path / "catalogue")
    local = f"id: pico-a, path: {folder}, source: local"
    path.write_text(FAMILY.replace("id: pico-a, source: embedded", local).format(other=tuned))
    with pytest.raises(UserError, match="tuned from the embedded 'pico-a', but the pipeline gives this id"):
        check_models(load_pipeline(str(path)), tmp_path / "catalogue")
