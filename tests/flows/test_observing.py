"""What a pipeline file may say of corpora, dictionaries of the catalogue and sets to observe."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from catalog.errors import UserError
from flows.config import PipelineConfig, load_pipeline
from flows.config_entries import UsedDictionary
from flows.preflight import check_models
from tasks.activations.models.embedded import embedded_model_path

TOPK = {"architecture": "topk", "d_sae": 32, "k": 4, "n_tokens": 100}
SECTIONS: dict[str, Any] = {
    "name": "several",
    "corpora": [{"id": "code", "source": "stdlib"}, {"id": "prose", "source": "text", "path": "prose"}],
    "models": [
        {"id": "pico-a", "source": "embedded"},
        {"id": "pico-r", "source": "reinitialised", "of": "pico-a", "seed": 0},
    ],
    "activations": {"context_length": 64, "n_tokens": 1_000, "hookpoints": ["blocks.2.resid_post"]},
    "dictionaries": [{**TOPK, "train_on": ["pico-a"]}],
    "observe": [{"model": "pico-r"}, {"corpus": "prose"}],
}


def load(folder: Path, **sections: Any) -> PipelineConfig:
    path = folder / "several.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**SECTIONS, **sections}.items() if v is not None}))
    return load_pipeline(str(path))


def narrow_model(folder: Path) -> Path:
    """A model like pico-a, with random weights and a stream of 48 numbers."""
    like = embedded_model_path("pico-a")
    settings = {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 12}
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(like, **settings)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(like).save_pretrained(folder)
    return folder


def test_the_first_corpus_is_the_one_to_train_on(tmp_path: Path) -> None:
    assert [corpus.id for corpus in load(tmp_path).all_corpora] == ["code", "prose"]
    both = load(tmp_path, corpus={"source": "stdlib"})
    assert [corpus.id for corpus in both.all_corpora] == ["main", "code", "prose"]
    one = load(tmp_path, corpus={"source": "stdlib"}, corpora=None, observe=None)
    assert [corpus.id for corpus in one.all_corpora] == ["main"]


def test_an_entry_trains_on_the_models_that_it_names(tmp_path: Path) -> None:
    config = load(tmp_path, dictionaries=[{**TOPK, "train_on": ["pico-a"]}, {"use": "pico-a/*"}])
    assert [config.trains_on(model) for model in config.models] == [True, False]
    assert config.used == (UsedDictionary(use="pico-a/*"),)
    entries = (TOPK, {**TOPK, "train_on": ["pico-a"]})
    plain, limited = (load(tmp_path, dictionaries=[one]).trained[0] for one in entries)
    assert plain.training() == limited.training()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"corpora": None}, "corpus is missing and has no default"),
        ({"corpora": [{"source": "stdlib"}]}, "an entry of corpora needs an id"),
        ({"corpora": [SECTIONS["corpora"][0]] * 2, "observe": None}, "corpus 'code' is listed twice"),
        (
            {"corpora": [{"id": "main", "source": "stdlib"}], "corpus": {"source": "stdlib"}},
            "'main' is listed",
        ),
        ({"observe": [{}]}, "needs a model, a corpus or a hookpoint"),
        ({"observe": {"model": "pico-z"}}, "observe names model 'pico-z'; models: pico-a, pico-r"),
        ({"observe": {"corpus": "poems"}}, "observe names corpus 'poems'; corpora: code, prose"),
        ({"observe": {"hookpoint": "blocks.1.resid_post"}}, "blocks.1.resid_post, which is not cached"),
        ({"observe": [{"corpus": "prose"}] * 2}, "'corpus prose' is listed twice"),
        ({"dictionaries": [{**TOPK, "train_on": ["pico-z"]}]}, "reads model 'pico-z'"),
        ({"dictionaries": [{**TOPK, "train_on": []}]}, "train_on"),
        ({"dictionaries": [{"use": ""}]}, "use: String should have at least 1 character"),
        ({"dictionaries": [{"use": "a", "k": 3}]}, "unknown field 'k'; known: use, evaluation"),
        ({"dictionaries": [{"use": "a"}, {"use": "a"}]}, "use 'a' is listed twice"),
        ({"dictionaries": [{**TOPK, "architecture": "topl"}]}, "unknown architecture 'topl'"),
    ],
)
def test_a_wrong_entry_is_one_sentence(tmp_path: Path, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        load(tmp_path, **sections)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_set_that_no_dictionary_can_read_is_refused_before_any_work(tmp_path: Path) -> None:
    narrow = {"id": "narrow", "source": "local", "path": str(narrow_model(tmp_path / "narrow"))}
    config = load(tmp_path, models=[SECTIONS["models"][0], narrow], observe={"model": "narrow"})
    with pytest.raises(UserError, match="model 'narrow' of width 48, but the dictionaries read 128 numbers"):
        check_models(config, tmp_path / "catalogue")


def test_a_pattern_that_finds_nothing_is_refused_before_any_work(tmp_path: Path) -> None:
    config = load(tmp_path, dictionaries=[{"use": "pico-a/*"}])
    with pytest.raises(UserError, match="there is no dictionary 'pico-a/"):
        check_models(config, tmp_path / "catalogue")
