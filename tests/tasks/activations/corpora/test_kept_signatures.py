"""Signatures that were kept change nothing but the time."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tasks.activations.corpora import kept_signatures
from tasks.activations.corpora.kept_signatures import KeptSignatures
from tasks.activations.corpora.near_duplicates import signature

TEXTS = [f"a text about the number {number} and nothing else at all" for number in range(5)]


def read(path: Path, texts: list[str]) -> list[np.ndarray]:
    kept = KeptSignatures(path)
    found = [kept.of(text, hashlib.sha256(text.encode()).hexdigest()) for text in texts]
    kept.save()
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts whose signatures are computed."""
    asked: list[str] = []

    def counted(text: str) -> np.ndarray:
        asked.append(text)
        return signature(text)

    monkeypatch.setattr(kept_signatures, "signature", counted)
    return asked


def test_only_new_texts_are_computed(tmp_path: Path, computed: list[str]) -> None:
    path = tmp_path / "folder" / "kept.safetensors"
    read(path, TEXTS[:3])
    found = read(path, TEXTS)
    assert computed == TEXTS
    assert all(np.array_equal(own, signature(text)) for own, text in zip(found, TEXTS, strict=True))
    read(path, TEXTS[1:])
    del computed[:]
    read(path, TEXTS)
    assert computed == TEXTS[:1], "a text that was not asked for is not kept"


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x10\0\0\0\0\0\0\0{}              "])
def test_a_damaged_file_is_not_used(tmp_path: Path, computed: list[str], content: bytes) -> None:
    path = tmp_path / "kept.safetensors"
    path.write_bytes(content)
    read(path, TEXTS)
    read(path, TEXTS)
    assert computed == TEXTS


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(read(tmp_path / "file" / "kept.safetensors", TEXTS)) == len(TEXTS)
