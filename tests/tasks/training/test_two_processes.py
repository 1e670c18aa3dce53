"""What methods learn beside gradients, and what trains on whole sequences, is shared by processes as well."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from catalog.errors import UserError
from tasks.activations.models.embedded import EMBEDDED_MODELS
from tasks.activations.models.language_model import LanguageModel, ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import dictionary_config
from tasks.training.end_to_end_run import EndToEndRun
from tasks.training.replicas import Replicas
from tasks.training.request import TrainingOptions
from tasks.training.trainer import (
    TrainedDictionary,
    TrainingJob,
    TrainingRun,
    train_many,
)

MODEL = ModelConfig(id=EMBEDDED_MODELS[0], source="embedded")
COMMON = {"d_sae": 64, "batch_tokens": 320, "n_tokens": 320 * 30, "lr": 3e-3}
SWEEP: dict[str, dict[str, Any]] = {
    "biases": {
        "architecture": "group_bias_adaptation",
        "highest_frequency": 0.1,
        "n_groups": 3,
        "window_tokens": 600,
        "lower_by": 0.1,
        **COMMON,
    },
    "in parts": {
        "architecture": "group_bias_adaptation",
        "highest_frequency": 0.1,
        "n_groups": 3,
        "window_tokens": 600,
        "lower_by": 0.1,
        **COMMON,
        "micro_batch_tokens": 80,
    },
    "end to end": {"architecture": "end_to_end", "l1_coefficient": 0.3, **COMMON, "n_tokens": 320 * 8},
}
PROCESS = """
import json, sys
from pathlib import Path
from safetensors.torch import save_file
from tasks.activations.models.language_model import ModelConfig
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import dictionary_config
from tasks.training.request import TrainingOptions
from tasks.training.trainer import TrainingJob, train_many

activations, sweep, folder = ActivationSet.open(Path(sys.argv[1])), json.loads(sys.argv[2]), Path(sys.argv[3])
model = ModelConfig.model_validate_json(sys.argv[4])
jobs = [
    TrainingJob(dictionary_config(fields), activations, folder / name, model=model)
    for name, fields in sweep.items()
]
for name, found in zip(sweep, train_many(jobs, TrainingOptions(device="cpu", n_threads=1)), strict=True):
    save_file({key: value.contiguous() for key, value in found.dictionary.state_dict().items()},
              folder / f"{name} {sys.argv[5]}.safetensors")
"""


@pytest.fixture(scope="module")
def by_two(activation_set: ActivationSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of each training as each of two processes has them in the end."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    arguments = [str(activation_set.folder), json.dumps(SWEEP), str(folder), MODEL.model_dump_json()]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments, rank],
            env={**os.environ, **place, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    return folder


@pytest.fixture(scope="module")
def by_one(activation_set: ActivationSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("one")
    jobs = [
        TrainingJob(dictionary_config(fields), activation_set, folder / name, model=MODEL)
        for name, fields in SWEEP.items()
    ]
    found = train_many(jobs, TrainingOptions(device="cpu", n_threads=1))
    return dict(zip(SWEEP, found, strict=True))


@pytest.mark.parametrize("name", SWEEP)
def test_both_processes_end_with_the_weights_of_one(name: str, by_one: Any, by_two: Path) -> None:
    one = by_one[name]
    assert isinstance(one, TrainedDictionary), one
    first, second = (load_file(by_two / f"{name} {rank}.safetensors") for rank in (0, 1))
    for key, tensor in one.dictionary.state_dict().items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], tensor, rtol=2e-3, atol=2e-3, msg=key)


def test_biases_moved_by_the_windows_of_the_whole_batch(by_one: Any, by_two: Path) -> None:
    biases = load_file(by_two / "biases 0.safetensors")["b_enc"]
    alone = by_one["biases"].dictionary.b_enc
    assert (alone < 0).all()
    assert alone.std() > 0.1 * alone.mean().abs(), "not all of them move alike"
    torch.testing.assert_close(biases, alone, rtol=1e-4, atol=1e-5)


def test_fewer_sequences_than_processes_are_refused(
    activation_set: ActivationSet, language_model: LanguageModel
) -> None:
    config: Any = dictionary_config({**SWEEP["end to end"], "batch_tokens": 127})
    six = type("SixProcesses", (Replicas,), {"n_processes": 6})()
    with pytest.raises(UserError, match="holds 1 sequences of 64 tokens, less than the 6 processes"):
        EndToEndRun(config, activation_set, torch.device("cpu"), language_model, replicas=six)
    config = dictionary_config({**SWEEP["biases"], "batch_tokens": 5})
    with pytest.raises(UserError, match="batch_tokens = 5 is less than the 6 processes"):
        TrainingRun(config, activation_set, torch.device("cpu"), replicas=six)
