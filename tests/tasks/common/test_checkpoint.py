"""Checkpoints are whole or absent, and a damaged one is passed over."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from catalog.errors import UserError
from catalog.faults import InjectedFault
from tasks.common.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def make_checkpoint(step: int) -> Checkpoint:
    weights = {"W": torch.full((3, 2), float(step)).T}
    return Checkpoint(
        step, weights, {"m": torch.arange(step)}, {"n_tokens": step * 10, "log": [[1, 2, "a", 0.1]]}
    )


def test_round_trip_keeps_two(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, make_checkpoint(step))
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 3
    assert loaded.state == make_checkpoint(3).state
    assert torch.equal(loaded.weights["W"], make_checkpoint(3).weights["W"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-000000002", "step-000000003"]


@pytest.mark.parametrize(
    "file", ["weights.safetensors", "optimiser.safetensors", "state.json", "sha256.json"]
)
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, file: str, damage: str) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    path = save_checkpoint(tmp_path, make_checkpoint(2)) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 1
    save_checkpoint(tmp_path, make_checkpoint(2))
    again = load_checkpoint(tmp_path)
    assert again is not None
    assert again.step == 2


@pytest.mark.parametrize("content", ["[1, 2, 3]", "[" * 100_000, '{"a": 1, "b": 2, "c": 3}', "3"])
def test_digests_of_another_kind_are_damage(tmp_path: Path, content: str) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    (save_checkpoint(tmp_path, make_checkpoint(2)) / "sha256.json").write_text(content)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step == 1


@pytest.mark.parametrize("point", ["tensors", "write", "rename", "latest", "pointer.write", "pointer.rename"])
def test_a_crash_while_saving_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1))
    monkeypatch.setattr("catalog.faults._visits", Counter())
    monkeypatch.setenv("FEATLAS_FAULT", f"checkpoint.{point}:1:raise")
    with pytest.raises(InjectedFault):
        save_checkpoint(tmp_path, make_checkpoint(2))
    monkeypatch.delenv("FEATLAS_FAULT")
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.step in (1, 2)
    save_checkpoint(tmp_path, make_checkpoint(3))
    assert not list(tmp_path.glob(".tmp-*")), "what the crash left behind is cleared away"


def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.faults._visits", Counter())
    monkeypatch.setenv("FEATLAS_FAULT", "checkpoint.write:1:enospc")
    with pytest.raises(UserError, match=r"cannot write the checkpoint .*No space left on device"):
        save_checkpoint(tmp_path, make_checkpoint(1))
