"""Forecasts of disk and memory are within a fifth of what is used, and refused above what is free."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from catalog.errors import UserError
from tasks.activations.caching import forecast as module
from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.caching.forecast import forecast, tree_bytes
from tasks.activations.caching.memory_meter import MemoryMeter
from tasks.activations.models.language_model import LanguageModel
from tasks.common.allocator import steady_allocator

Loader = Callable[[str], LanguageModel]
HOOKPOINTS = ("blocks.1.resid_post", "blocks.0.mlp_act")
TOLERANCE = 0.2


def _config(packing: str = "block") -> ActivationsConfig:
    return ActivationsConfig(
        hookpoints=HOOKPOINTS,
        context_length=32,
        n_tokens=8_000,
        packing=packing,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("packing", ["block", "per_document"])
def test_disk_is_within_a_fifth(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, packing: str
) -> None:
    model = language_model("llama")
    cached = cache_activations(model, corpus, _config(packing), tmp_path)
    packed = cached.open(HOOKPOINTS[0]).tokens
    need = forecast(
        model, packed, {HOOKPOINTS[0]: 32, HOOKPOINTS[1]: 48}, dict.fromkeys(HOOKPOINTS, "float16"), 32
    )
    linked = {path.stat().st_ino: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sum(linked.values()) == pytest.approx(need.disk_bytes, rel=TOLERANCE)


MEASURE = """
import json, os, pathlib, sys, types
import pyarrow as pa, torch
torch.set_num_threads(1)
from tasks.activations.caching import cache
from tasks.activations.models.language_model import ModelConfig, load_language_model

def status(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

def measure(family, hookpoints, folder, scratch):
    forecasts = []
    real = cache.forecast
    cache.forecast = lambda *values: forecasts.append(real(*values)) or forecasts[-1]
    texts = ["the ships came in. " * 40 * (1 + i % 7) for i in range(50)]
    names = [f"d{i}" for i in range(len(texts))]
    table = pa.table({"document_id": names, "split": ["train"] * len(texts), "text": texts})
    config = cache.ActivationsConfig(
        hookpoints=hookpoints, context_length=256, n_tokens=8_192, eval_share=0.0, batch_sequences=16
    )
    model = load_language_model(ModelConfig(id="m", source="local", path=folder), "cpu")
    model.tokenizer("warm up")
    sum(float(p.sum()) for p in model.model.parameters())  # loading maps the files and reads them later
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS:")
    corpus = types.SimpleNamespace(table=table, digest="d", chat_template=None)
    cache.cache_activations(model, corpus, config, pathlib.Path(scratch))
    case = {"family": family, "n_hookpoints": len(hookpoints)}
    figures = {"used": status("VmHWM:") - before, "forecast": forecasts[0].working_bytes}
    print(json.dumps({**case, **figures}), flush=True)

for number, (family, hookpoints) in enumerate(json.loads(sys.argv[2])):
    if os.fork() == 0:
        try:
            measure(family, hookpoints, f"{sys.argv[1]}/{family}", f"{sys.argv[1]}/scratch-{number}")
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(0)
    os.wait()
"""
MEASURED = ("llama", "gpt2", "bert")
ONE = ("blocks.1.resid_post",)
FOUR = ("blocks.1.resid_post", "blocks.0.mlp_act", "blocks.0.resid_post", "blocks.1.mlp_out")


def test_memory_is_within_a_fifth_for_every_kind_of_layout(
    model_builder: Callable[..., Path], tmp_path: Path
) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "max_position_embeddings": 512}
    for family in MEASURED:
        model_builder(family, tmp_path / family, **sizes)
    cases = [(MEASURED[0], ONE), *((family, FOUR) for family in MEASURED)]
    command = [sys.executable, "-c", MEASURE, str(tmp_path), json.dumps(cases)]
    result = subprocess.run(
        command, env=steady_allocator(os.environ), capture_output=True, text=True, timeout=300, check=False
    )
    figures = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(figures) == len(cases), result.stderr
    for case in figures:
        assert case["used"] == pytest.approx(case["forecast"], rel=TOLERANCE), figures


def test_meter_counts_what_lives_at_one_time() -> None:
    older = torch.zeros(1_000)
    with MemoryMeter() as meter:
        kept = torch.ones(1_000)
        view = kept[:10].reshape(2, 5)  # no memory of its own
        for _ in range(5):
            torch.ones(500)  # gone at once
        older.add_(1.0)
        older.view(10, 100)
        both = torch.cat([kept, kept])
    assert (view.numel(), both.numel()) == (10, 2_000)
    assert meter.peak_bytes == 4 * (1_000 + 2_000)


def test_more_than_the_free_disk_is_refused_before_shards_are_written(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(total=10**9, used=0, free=0)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"caching needs 1 MiB in .*, 0 MiB are free"):
        cache_activations(language_model("llama"), corpus, _config(), tmp_path)
    assert not list(tmp_path.rglob("shard-*"))
    usage.free = 10**9
    cache_activations(language_model("llama"), corpus, _config(), tmp_path)
    usage.free = 0  # all is there already
    cache_activations(language_model("llama"), corpus, _config(), tmp_path)


def test_more_than_the_free_memory_is_refused(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_memory_bytes", lambda _: 1_000)
    with pytest.raises(UserError, match=r"MiB of memory on cpu, 1 MiB are free: lower"):
        cache_activations(language_model("llama"), corpus, _config(), tmp_path)


def test_free_memory_respects_the_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300000\n")
    monkeypatch.setattr(module, "_CGROUP", tmp_path)
    assert module.free_memory_bytes(torch.device("cpu")) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert module.free_memory_bytes(torch.device("cpu")) > 400_000


def test_tree_bytes_counts_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"123")
    (tmp_path / "c").write_bytes(b"4")
    assert tree_bytes(tmp_path) == 4
