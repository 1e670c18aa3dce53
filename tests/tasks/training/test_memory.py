"""The memory forecast of a training: near what a real one takes, and obeyed when memory is short."""

import json
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.errors import UserError
from tasks.common.checkpoint import load_checkpoint
from tasks.dictionaries.base import dictionary_config
from tasks.training.memory import NotEnoughMemory, StorageMeter
from tasks.training.request import TrainingOptions
from tasks.training.run import TrainingRun
from tasks.training.trainer import (
    TrainedDictionary,
    TrainingInterrupted,
    TrainingJob,
    train,
    train_many,
)

MEBIBYTE = 2**20
SMALL = {"d_sae": 48, "n_tokens": 3_000, "batch_tokens": 500, "lr": 3e-3, "buffer_tokens": 1_000}

CHILD = """
import json, sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from tasks.dictionaries.base import dictionary_config
from tasks.training.memory import return_freed_memory
from tasks.training.run import TrainingRun

torch.set_num_threads(1)
WIDTH, CONTEXT, SEQUENCES = 256, 64, 260


class Activations:
    d_in, context_length = WIDTH, CONTEXT
    values = np.random.default_rng(0).standard_normal((SEQUENCES, CONTEXT, WIDTH)).astype(np.float16)
    tokens = SimpleNamespace(valid=np.ones((SEQUENCES, CONTEXT), dtype=bool))

    def sequence_rows(self, split):
        return np.arange(SEQUENCES)

    def read(self, rows):
        return self.values[rows]


def resident_bytes(name):
    with open("/proc/self/status") as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def begun(**changes):
    fields = {"n_tokens": 100_000, "batch_tokens": 2_048, "buffer_tokens": 8_192, **json.loads(sys.argv[1])}
    run = TrainingRun(dictionary_config({**fields, **changes}), Activations(), torch.device("cpu"))
    run.start()
    return run


small = begun(d_sae=64, batch_tokens=64)
small.plan_memory()
small.step()
return_freed_memory()  # what the C library keeps would be used again and not be seen to grow
before = resident_bytes("VmRSS")
run = begun(d_sae=8_192)
need = run.plan_memory()
Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak from here on
run.step(), run.step()
print(json.dumps([need.weights_bytes + need.missing_bytes, resident_bytes("VmHWM") - before]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "topk", "k": 32, "dead_after_tokens": 1},
        {"architecture": "jumprelu", "target_l0": 30.0},
    ],
    ids=lambda fields: str(fields["architecture"]),
)
def test_forecast_is_near_the_measured_peak(fields: dict[str, Any]) -> None:
    command = [sys.executable, "-c", CHILD, json.dumps(fields)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    forecast, measured = json.loads(done.stdout)
    assert 0.7 < forecast / measured < 1.4, (forecast // MEBIBYTE, measured // MEBIBYTE)


def make_config(**changes: Any) -> Any:
    return dictionary_config({**SMALL, "architecture": "topk", "k": 2, "aux_alpha": 0.0, **changes})


def pretend_free(monkeypatch: pytest.MonkeyPatch, n_bytes: int) -> None:
    monkeypatch.setattr("tasks.training.memory.free_memory_bytes", lambda device: n_bytes)


def missing_bytes(planted: Any, **changes: Any) -> int:
    run = TrainingRun(make_config(**changes), planted, torch.device("cpu"))
    run.start()
    need = run.plan_memory()
    assert need is not None
    return need.missing_bytes


def test_a_batch_is_split_when_memory_is_short(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(d_sae=1_024)
    plenty = train(config, planted, tmp_path / "plenty", device="cpu", n_threads=1)
    with_all, with_half = (missing_bytes(planted, d_sae=1_024, micro_batch_tokens=m) for m in (None, 250))
    assert with_half < with_all
    pretend_free(monkeypatch, int((with_all + with_half) / 2 / 0.9))
    short = train(config, planted, tmp_path / "short", device="cpu", n_threads=1)
    assert "memory is short, working on 250 of 500 tokens at a time" in caplog.text
    for name, tensor in plenty.dictionary.state_dict().items():
        torch.testing.assert_close(short.dictionary.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)


def stopped_after(n_steps: int, config: Any, planted: Any, scratch: Path) -> None:
    calls = count(1)
    with pytest.raises(TrainingInterrupted):
        train(config, planted, scratch, device="cpu", n_threads=1, should_stop=lambda: next(calls) >= n_steps)


def part_tokens_of(scratch: Path) -> int:
    checkpoint = load_checkpoint(scratch / "checkpoints")
    assert checkpoint is not None
    return int(checkpoint.state["part_tokens"])


def test_a_resumed_training_is_split_only_where_memory_is_short(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(d_sae=1_024)
    whole = train(config, planted, tmp_path / "whole", device="cpu", n_threads=1)
    for name in ("ample", "short"):
        stopped_after(2, config, planted, tmp_path / name)
    moments = 2 * 4 * (2 * 1_024 * 16 + 1_024 + 16)
    with_all, with_half = (
        missing_bytes(planted, d_sae=1_024, micro_batch_tokens=m) - moments for m in (None, 250)
    )
    pretend_free(monkeypatch, with_all)  # all of it may be planned with, moments are there already
    resumed = train(config, planted, tmp_path / "ample", device="cpu", n_threads=1)
    assert caplog.text == ""
    assert torch.equal(resumed.dictionary.W_dec, whole.dictionary.W_dec)
    pretend_free(monkeypatch, (with_all + with_half) // 2)
    short = train(config, planted, tmp_path / "short", device="cpu", n_threads=1)
    assert "working on 250 of 500 tokens at a time, from step 2 on no longer bit for bit" in caplog.text
    assert [part_tokens_of(tmp_path / name) for name in ("ample", "short")] == [500, 250]
    torch.testing.assert_close(short.dictionary.W_dec, whole.dictionary.W_dec, rtol=1e-3, atol=1e-3)


def test_a_resumed_training_that_cannot_fit_is_refused_and_waits_for_a_larger_machine(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(n_tokens=2_000)
    whole = train(config, planted, tmp_path / "whole", device="cpu", n_threads=1)
    stopped_after(2, config, planted, tmp_path / "resumed")
    with monkeypatch.context() as smaller:
        pretend_free(smaller, 16 * MEBIBYTE)
        with pytest.raises(NotEnoughMemory, match=r"MiB more memory on cpu \(0 for the moments of Adam"):
            train(config, planted, tmp_path / "resumed", device="cpu", n_threads=1)
    resumed = train(config, planted, tmp_path / "resumed", device="cpu", n_threads=1)
    assert torch.equal(resumed.dictionary.W_dec, whole.dictionary.W_dec)


def test_what_cannot_fit_is_refused_before_the_first_step(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_free(monkeypatch, 16 * MEBIBYTE)
    with pytest.raises(NotEnoughMemory, match=r"MiB more memory on cpu .* 15 MiB are free: lower"):
        train(make_config(), planted, tmp_path, device="cpu", listener=lambda _: pytest.fail("a step"))
    with pytest.raises(NotEnoughMemory, match="100000000 latents of width 16 needs more than 24415 MiB"):
        train(make_config(d_sae=10**8), planted, tmp_path, device="cpu")
    assert not (tmp_path / "checkpoints").exists()


def test_those_without_room_beside_the_others_come_after_them(
    planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: dict[str, Any] = {"d_sae": 4_096, "n_tokens": 1_000}
    configs = [make_config(seed=seed, **sizes) for seed in range(3)]
    alone = [train(c, planted, tmp_path / f"alone-{c.seed}", n_threads=1) for c in configs]
    need = missing_bytes(planted, **sizes)
    half_of_another = 0.5 * 3 * 4 * 2 * 4_096 * 16
    pretend_free(monkeypatch, int((need + half_of_another) / 0.9))
    jobs = [TrainingJob(config, planted, tmp_path / str(config.seed)) for config in configs]
    ended: list[int] = []
    outcomes = train_many(jobs, TrainingOptions(device="cpu", n_threads=1), lambda n, _: ended.append(n))
    assert ended == [0, 1, 2]
    for outcome, expected in zip(outcomes, alone, strict=True):
        assert isinstance(outcome, TrainedDictionary), outcome
        assert torch.equal(outcome.dictionary.W_dec, expected.dictionary.W_dec)
        assert outcome.log.equals(expected.log)


def test_the_meter_counts_what_autograd_keeps() -> None:
    x = torch.randn(1_000, requires_grad=True)
    with StorageMeter() as meter:
        y = x.sigmoid().sigmoid()  # both results are kept for the way back
        z = y.sum()
        del y
        assert meter.peak_bytes == 8_004
        z.backward()  # type: ignore[no-untyped-call]
        torch.ones(10)
    assert 12_000 <= meter.peak_bytes <= 20_008


def test_it_is_an_error_of_the_user() -> None:
    assert issubclass(NotEnoughMemory, UserError)
