"""A checkpoint tells trainings apart exactly where the fingerprint does."""

from types import SimpleNamespace

import pytest
import torch

from catalog.ids import stage_fingerprint
from catalog.ledger import StageOutcome
from tasks.activations.models.source import ModelConfig
from tasks.dictionaries.architectures import snmf
from tasks.dictionaries.base import ARCHITECTURES, dictionary_config
from tasks.dictionaries.config import DictionaryConfig
from tasks.support.training_units import CachedHookpoint, TrainUnit
from tasks.training.resumable import config_digest
from tests.tasks.stages.landed import another

HOOKPOINT = "blocks.1.resid_post"
SET = {"activation_set_id": "s-00000000", "uri": "_blobs/activations/s"}
READ = CachedHookpoint(
    StageOutcome("0" * 64, "cache_activations", False, facts={"activation_sets": {HOOKPOINT: SET}}),
    HOOKPOINT,
    ModelConfig(id="pico-a", source="embedded"),
)
TRAINED = [name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained == "steps"]


def config_of(name: str) -> DictionaryConfig:
    fields = {"architecture": name, "d_sae": 48, "n_tokens": 1_000, **ARCHITECTURES[name].Config.example}
    wanted = {key: value for key, value in fields.items() if key in ARCHITECTURES[name].Config.model_fields}
    return dictionary_config(wanted)


def fingerprint(config: DictionaryConfig) -> str:
    key = TrainUnit(config, (READ,)).key
    return stage_fingerprint(key.stage, key.version, key.config, key.parents)


def digest_in_checkpoint(config: DictionaryConfig) -> str:
    if isinstance(config, snmf.SnmfConfig):
        return snmf._digest(config, torch.ones(4, 3))
    activations = SimpleNamespace(hookpoint_widths=[8], context_length=64)
    return config_digest(config, activations, n_sequences=2)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("name", [*TRAINED, "snmf"])
def test_every_field_is_told_apart_by_both_or_by_none(name: str) -> None:
    config = config_of(name)
    told_apart = set()
    for field in type(config).model_fields:
        changed = config.model_copy(update={field: another(getattr(config, field))})
        differs = fingerprint(changed) != fingerprint(config)
        assert differs == (digest_in_checkpoint(changed) != digest_in_checkpoint(config)), field
        told_apart |= {field} if differs else set()
    assert "evaluation" not in told_apart
    assert {"seed", "n_tokens", "architecture"} <= told_apart
