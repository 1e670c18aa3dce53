"""Several dictionaries trained in one process: units of work of their own, committed one by one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from catalog.connection import connect
from catalog.errors import UserError
from catalog.ledger import Ledger, StageOutcome
from tasks.activations.models.embedded import EMBEDDED_MODELS
from tasks.activations.models.source import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import dictionary_config
from tasks.stages.train_dictionary import train_dictionary
from tasks.stages.train_together import train_together
from tasks.support.policies import StageContext
from tasks.support.training_units import CachedHookpoint, TrainGroup, TrainUnit

HOOKPOINT = "blocks.1.resid_post"
FIELDS: dict[str, Any] = {"architecture": "topk", "d_sae": 64, "batch_tokens": 256, "n_tokens": 256 * 12}


@pytest.fixture
def point(activation_set: ActivationSet, tmp_path: Path) -> CachedHookpoint:
    uri = "_blobs/activations/test"
    shutil.copytree(activation_set.folder, tmp_path / uri)
    place = {"activation_set_id": "set-00000001", "uri": uri}
    facts = {"model_id": EMBEDDED_MODELS[0], "corpus_id": "corpus-1", "activation_sets": {HOOKPOINT: place}}
    cached = StageOutcome("f" * 64, "cache_activations", True, {}, 0, 0.0, facts)
    return CachedHookpoint(cached, HOOKPOINT, ModelConfig(id=EMBEDDED_MODELS[0], source="embedded"))


def unit_of(point: CachedHookpoint, **fields: Any) -> TrainUnit:
    return TrainUnit(dictionary_config({**FIELDS, **fields}), (point,))


def n_rows(root: Path, query: str) -> int:
    with connect(root) as connection:
        (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)


def test_each_is_a_unit_of_its_own(point: CachedHookpoint, tmp_path: Path) -> None:
    context = StageContext(tmp_path, "run-1", device="cpu", wait_seconds=0.0)
    first, second, taken = (unit_of(point, k=k) for k in (4, 6, 7))
    impossible = unit_of(point, k=65)
    group = TrainGroup("model", (first, impossible, second, taken))
    assert group.is_wanted
    with Ledger(tmp_path).claim(
        *(taken.key.stage, taken.key.version, taken.label, taken.key.config, taken.key.parents)
    ):
        ended = train_together.fn(context, group)
    assert list(ended) == [impossible.label, first.label, second.label], (
        "what another run works on is left out"
    )
    refusal = ended[impossible.label]
    assert isinstance(refusal, UserError)
    assert "k = 65 exceeds its 64 latents" in str(refusal)
    for unit in (first, second):
        outcome = ended[unit.label]
        assert isinstance(outcome, StageOutcome)
        assert outcome.recomputed
        found = train_dictionary.fn(context, unit)  # the same fingerprint as alone
        assert (found.recomputed, found.fingerprint) == (False, outcome.fingerprint)
        assert found.facts == outcome.facts
        assert (tmp_path / str(found.facts["weights_uri"]) / "cfg.json").is_file()
    assert n_rows(tmp_path, "select count(*) from dictionaries") == 2
    assert n_rows(tmp_path, "select count(*) from training_log where metric = 'loss'") == 24
    assert n_rows(tmp_path, "select count(*) from stage_runs where state = 'failed'") == 1
    assert train_together.fn(context, TrainGroup("model", (first, second))) == {}, "both are done"


def test_one_dictionary_has_nothing_to_share(point: CachedHookpoint) -> None:
    assert not TrainGroup("model", (unit_of(point, k=4),)).is_wanted
