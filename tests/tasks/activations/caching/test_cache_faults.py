"""Killed anywhere, caching goes on where it was and ends with the same bytes (storage faults 1 and 11)."""

import hashlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from catalog.errors import UserError
from tasks.activations.caching.cache import (
    ActivationsConfig,
    cache_activations,
    open_intact,
    recompute_shards,
)
from tasks.activations.caching.shard_pass import write_shard
from tasks.activations.models.language_model import LanguageModel, ModelConfig
from tasks.activations.reading.shards import ActivationSet, CorruptShard
from tasks.common.cores import torch_threads

Loader = Callable[[str], LanguageModel]
HOOKPOINTS = ("blocks.1.resid_post", "blocks.0.attn_out")
CONFIG = ActivationsConfig(
    hookpoints=HOOKPOINTS,
    context_length=16,
    n_tokens=700,
    eval_share=0.2,
    batch_sequences=8,
    shard_mebibytes=0.017,
)
FAULT_POINTS = (
    "tokens.record.write",
    "tokens.record.rename",
    "cache.plan.write",
    "cache.plan.rename",
    "shard.write",
    "shard.rename",
    "shard.index.write",
    "shard.index.rename",
    "cache.finish",
    "cache.meta.write",
    "cache.meta.rename",
)
MOST_VISITS = 40


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forked children must not use thread pools of their parent; a kill loses nothing that was not synced."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setattr("catalog.faults._visits", Counter())
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _killed_at(point: str, nth: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that is killed at the n-th visit of a point; False if it got to the end."""
    child = os.fork()
    if child == 0:
        os.environ["FEATLAS_FAULT"] = f"{point}:{nth}:kill"
        signal.alarm(60)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.parametrize("point", FAULT_POINTS)
def test_killed_at_every_visit_and_resumed_gives_the_same_bytes(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, point: str
) -> None:
    model = language_model("llama")
    cache_activations(model, corpus, CONFIG, tmp_path / "unbroken")
    expected = _tree(tmp_path / "unbroken")
    n_kills = 0
    for nth in range(1, MOST_VISITS):
        scratch = tmp_path / f"killed-{nth}"
        if not _killed_at(
            point, nth, lambda scratch=scratch: cache_activations(model, corpus, CONFIG, scratch)
        ):
            break
        n_kills += 1
        cached = cache_activations(model, corpus, CONFIG, scratch)
        assert _tree(scratch) == expected  # unfinished files are gone too
        assert all(cached.open(name).verify() == [] for name in HOOKPOINTS)
    else:
        pytest.fail(f"{point} is visited more than {MOST_VISITS} times: make the example smaller")
    assert n_kills >= 1


def test_resumed_run_computes_only_what_is_missing(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = language_model("llama")
    assert _killed_at("shard.rename", 5, lambda: cache_activations(model, corpus, CONFIG, tmp_path))
    import tasks.activations.caching.cache as module

    computed: list[tuple[int, tuple[str, ...]]] = []
    write_shard = module.write_shard

    def counted(*args: object) -> object:
        computed.append((args[3], tuple(args[4])))  # type: ignore[arg-type, call-overload]
        return write_shard(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_shard", counted)
    cache_activations(model, corpus, CONFIG, tmp_path)
    assert computed == [(2, HOOKPOINTS)]


def test_damaged_shard_of_a_broken_run_is_recomputed(
    language_model: Loader, corpus: SimpleNamespace, tmp_path: Path
) -> None:
    model = language_model("llama")
    cached = cache_activations(model, corpus, CONFIG, tmp_path)
    expected = _tree(tmp_path)
    _flip_a_byte(cached.folders[HOOKPOINTS[0]] / "shard-00001.npy")
    (cached.folders[HOOKPOINTS[1]] / "shard-00000.npy").unlink()
    cache_activations(model, corpus, CONFIG, tmp_path)
    assert _tree(tmp_path) == expected


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))


@pytest.fixture
def finished(language_model: Loader, corpus: SimpleNamespace, tmp_path: Path) -> ActivationSet:
    return cache_activations(language_model("llama"), corpus, CONFIG, tmp_path).open(HOOKPOINTS[0])


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_shard_is_not_read_and_can_be_recomputed(
    finished: ActivationSet, language_model: Loader, damage: str
) -> None:
    rows = finished.sequence_rows()
    expected = finished.read(rows)
    path = finished.folder / "shard-00001.npy"
    if damage == "flip":
        _flip_a_byte(path)
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
    reopened = ActivationSet.open(finished.folder)
    assert reopened.corrupt_shards() == [1]
    assert len(reopened.verify()) == 1
    with pytest.raises(CorruptShard, match="shard 1 of"):
        reopened.read(rows)
    assert reopened.read(rows[:3]).shape[0] == 3  # the others are well
    assert recompute_shards(reopened, language_model("llama")) == [1]
    assert np.array_equal(reopened.read(rows), expected)
    assert recompute_shards(reopened, language_model("llama")) == []


def test_shards_are_recomputed_with_the_threads_of_their_set(
    finished: ActivationSet, language_model: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished.meta["n_threads"] == 1
    finished.meta["n_threads"] = 2
    (finished.folder / "shard-00000.npy").unlink()
    used: list[int] = []

    def look(*arguments: Any) -> Any:
        used.append(torch.get_num_threads())
        with torch_threads(1):  # no pool of threads in a process that forks
            return write_shard(*arguments)

    monkeypatch.setattr("tasks.activations.caching.cache.write_shard", look)
    assert recompute_shards(finished, language_model("llama")) == [0]
    assert (used, torch.get_num_threads()) == ([2], 1)


def test_recomputing_with_another_model_is_refused(finished: ActivationSet, language_model: Loader) -> None:
    (finished.folder / "shard-00000.npy").unlink()
    with pytest.raises(UserError, match=r"the weights .* changed since"):
        recompute_shards(finished, language_model("qwen3"))
    assert not (finished.folder / "shard-00000.npy").exists()


def test_damaged_tokens_are_found(finished: ActivationSet) -> None:
    _flip_a_byte(finished.folder / "tokens" / "char_end.npy")
    assert finished.verify() == [f"{finished.folder / 'tokens' / 'char_end'} is damaged"]


def test_stages_open_sets_that_are_intact_or_repaired(
    finished: ActivationSet, model_config: Callable[[str], ModelConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = finished.read(finished.sequence_rows())
    _flip_a_byte(finished.folder / "shard-00002.npy")
    repaired = open_intact(finished.folder, model_config("llama"), "cpu")
    assert np.array_equal(repaired.read(repaired.sequence_rows()), expected)
    monkeypatch.setattr(
        "tasks.activations.caching.cache.load_language_model", lambda *_: pytest.fail("loaded")
    )
    assert open_intact(finished.folder, model_config("llama"), "cpu").verify() == []
