"""Stored configurations stay as they are; a dictionary that takes no steps has no setting of steps."""

import json

import pytest
import torch
from pydantic import ValidationError

from tasks.dictionaries.architectures import snmf
from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.gradient_config import GradientConfig
from tests.golden.freeze_dictionary_configs import example, frozen

FROZEN = frozen()
STEPS = set(GradientConfig.model_fields) - set(DictionaryConfig.model_fields)
WITHOUT_STEPS = [name for name in ARCHITECTURES if ARCHITECTURES[name].how_trained in ("fit", "imported")]


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_stored_of_a_dictionary_is_what_it_always_was(name: str) -> None:
    config = dictionary_config(example(name))
    assert json.loads(json.dumps(config.canonical())) == FROZEN[name]
    assert dictionary_config(FROZEN[name]) == config


@pytest.mark.parametrize("name", WITHOUT_STEPS)
def test_what_takes_no_steps_has_no_setting_of_steps(name: str) -> None:
    own = set(ARCHITECTURES[name].Config.model_fields)
    assert own & STEPS <= {"n_tokens", "token_norm"}
    for setting in sorted(STEPS - own):
        with pytest.raises(ValidationError, match=f"not trained by steps: leave {setting} out"):
            dictionary_config({**example(name), setting: "another value"})


def test_a_checkpoint_of_a_fit_is_found_again() -> None:
    """The digest that a checkpoint of version 0.1 holds."""
    config = dictionary_config({"architecture": "snmf", "d_sae": 48, "n_tokens": 1_000})
    assert isinstance(config, snmf.SnmfConfig)
    assert snmf._digest(config, torch.ones(4, 3)) == (
        "4a80ddad5f1b84da6c2381cd8b4d6d30a6ca2869b2115e05c07d02ef9d0d8aad"
    )
