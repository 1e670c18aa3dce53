"""Pipeline files: every one loads, every mistake is one sentence that names what is known."""

from pathlib import Path

import pytest
import yaml

from catalog.errors import UserError
from flows.config import PIPELINES, PipelineConfig, load_pipeline, pipeline_names, set_value


@pytest.mark.parametrize("name", pipeline_names())
def test_every_pipeline_loads_under_the_stem_of_its_file(name: str) -> None:
    assert load_pipeline(name).name == name


def test_a_pipeline_survives_the_way_through_json() -> None:
    config = load_pipeline("demo")
    assert PipelineConfig.model_validate(config.canonical()) == config


def test_every_field_has_a_help_text() -> None:
    assert [name for name, field in PipelineConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("dictionaries.0.kk=3", ["dictionaries.0", "'kk'", "known: architecture"]),
        ("dictionaries.0.architecture=mine", ["unknown architecture 'mine'", "topk"]),
        ("corpus.source=web", ["unknown corpus source 'web'", "stdlib"]),
        ("explain.explainer=oracle", ["unknown explainer 'oracle'", "lexical"]),
        ("score.0.scorer=dice", ["unknown scorer 'dice'", "predicate"]),
        ("evaluate.suite=guess", ["unknown suite 'guess'", "sparse_probing"]),
        ("evaluate=[{suite: sparse_probing}]", ["evaluate.0", "label", "is missing"]),
        ("evaluate=[{suite: first_letter}, {suite: first_letter}]", ["suite 'first_letter' is listed twice"]),
        ("match.0.matcher=eye", ["unknown matcher 'eye'", "activation_correlation"]),
        ("colour=blue", ["'colour'", "known: name, description"]),
        ("models.0.source=web", ["models.0.source", "'embedded'"]),
        ("models.1.id=pico-a", ["model 'pico-a' is listed twice"]),
        ("activations.context_length=", ["activations.context_length"]),
        ("schedule.cron=1 2", ["cron '1 2' needs five fields"]),
        ("schedule.timezone=Europe/Berlin", ["schedule.timezone", "'UTC'"]),
        ("name=other", ["'other' must be the stem of the file"]),
        ("dictionaries.7.k=3", ["there is no 'dictionaries.7'"]),
        ("nonsense", ["path=value"]),
    ],
)
def test_a_mistake_is_one_sentence(override: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_pipeline("demo", [override])
    message = str(caught.value)
    assert [fragment for fragment in fragments if fragment not in message] == []
    assert "\n" not in message


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    values = yaml.safe_load((PIPELINES / "demo.yaml").read_text())
    del values["models"]
    (tmp_path / "demo.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UserError, match=r"models: is missing and has no default"):
        load_pipeline(str(tmp_path / "demo.yaml"))


def test_an_unknown_pipeline_names_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"there is no pipeline 'dmeo': name one of .*demo"):
        load_pipeline("dmeo")


def test_broken_yaml_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("name: [broken")
    with pytest.raises(UserError, match="is not YAML") as caught:
        load_pipeline(str(path))
    assert "\n" not in str(caught.value)


def test_an_override_reads_yaml_and_reaches_into_lists() -> None:
    values = {"dictionaries": [{"k": 1}], "corpus": {}}
    for override in (
        "dictionaries.0.k=16",
        "corpus.path=a b.parquet",
        "corpus.columns=[x, y]",
        "new.deep=1e-3",
    ):
        set_value(values, override)
    assert values == {
        "dictionaries": [{"k": 16}],
        "corpus": {"path": "a b.parquet", "columns": ["x", "y"]},
        "new": {"deep": "1e-3"},
    }


def test_a_model_names_its_own_hookpoints() -> None:
    config = load_pipeline("demo", ["models.0.hookpoints=[blocks.1.resid_post]"])
    assert config.activations.for_model(config.models[0]).hookpoints == ("blocks.1.resid_post",)


def test_one_explainer_may_be_written_without_a_list() -> None:
    config = load_pipeline("demo", ["explain={explainer: lexical}"])
    assert [explainer.explainer for explainer in config.explain] == ["lexical"]
