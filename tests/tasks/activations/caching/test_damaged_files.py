"""Every file of an activation set, damaged in every way: it is computed again or costs one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from catalog.errors import UserError
from tasks.activations.caching.cache import (
    ActivationsConfig,
    CachedActivations,
    cache_activations,
    open_intact,
)
from tasks.activations.models.language_model import LanguageModel, ModelConfig
from tasks.activations.reading.shards import ActivationSet

Loader = Callable[[str], LanguageModel]
HOOKPOINT = "blocks.0.attn_out"
CONFIG = ActivationsConfig(
    hookpoints=(HOOKPOINT,),
    context_length=16,
    n_tokens=400,
    eval_share=0.2,
    batch_sequences=8,
    shard_mebibytes=0.017,
)
NESTED = b"[" * 100_000


def _flipped(content: bytes) -> bytes:
    return (
        content[: len(content) // 3]
        + bytes([content[len(content) // 3] ^ 1])
        + content[len(content) // 3 + 1 :]
    )


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "cut by one": lambda content: content[:-1],
    "zeroed": lambda content: b"\0" * len(content),
    "flipped": _flipped,
    "deleted": lambda content: None,
    "garbage": lambda content: b"\x93garbage\n" * 50,
    "emptied": lambda content: b"",
    "a list": lambda content: b"[]",
    "an empty object": lambda content: b"{}",
    "nested": lambda content: NESTED,
    "wrong types": lambda content: json.dumps(
        {"shards": [{"number": "0"}], "n_sequences": "x", "sha256": 3, "premises": [], "n_shards": None}
    ).encode(),
}


@pytest.fixture(scope="module")
def made(
    language_model: Loader, corpus: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    scratch = tmp_path_factory.mktemp("set") / "scratch"
    cached = cache_activations(language_model("llama"), corpus, CONFIG, scratch)
    return scratch, cached.folders[HOOKPOINT].name


def content_of(activation_set: ActivationSet) -> list[bytes]:
    tokens = activation_set.tokens
    arrays = [activation_set.read(activation_set.sequence_rows())]
    arrays += [np.asarray(getattr(tokens, name)) for name in ("token_ids", "valid", "char_start")]
    return [array.tobytes() for array in arrays]


def attempted(ask: Callable[[], Any]) -> Any:
    """What it gives, or the sentence with which it is refused."""
    try:
        return ask()
    except UserError as error:
        return str(error)


def damaged(scratch: Path, target: Path, file: Path, damage: str) -> Path:
    """A copy in which one file is damaged; files that share their content are apart."""
    copy = Path(shutil.copytree(scratch, target))
    path = copy / file
    content = DAMAGES[damage](path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    return copy


def kinds(folder: Path) -> list[Path]:
    """One file of each kind, relative to the folder."""
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if "shard-" not in path.name or path.name == "shard-00001.npy"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_finished_set_is_repaired_or_refused(
    made: tuple[Path, str], tmp_path: Path, model_config: Callable[[str], ModelConfig], damage: str
) -> None:
    scratch, name = made
    whole = content_of(ActivationSet.open(scratch / name))
    for number, file in enumerate(kinds(scratch / name)):
        folder = damaged(scratch, tmp_path / str(number), Path(name) / file, damage) / name
        found = attempted(lambda at=folder: content_of(open_intact(at, model_config("llama"), "cpu")))
        assert found == whole or str(folder) in found or "changed since" in found, (file, found)
        told = attempted(lambda at=folder: ActivationSet.open(at).verify())
        assert isinstance(told, list) or str(folder) in told, (file, told)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_attempt_goes_on_or_says_what_to_remove(
    made: tuple[Path, str], language_model: Loader, corpus: SimpleNamespace, tmp_path: Path, damage: str
) -> None:
    scratch, name = made
    whole = content_of(ActivationSet.open(scratch / name))

    def cached_in(folder: Path) -> CachedActivations:
        return cache_activations(language_model("llama"), corpus, CONFIG, folder)

    for number, file in enumerate(kinds(scratch)):
        folder = damaged(scratch, tmp_path / str(number), file, damage)
        (folder / name / "meta.json").unlink(missing_ok=True)
        found = attempted(lambda at=folder: content_of(cached_in(at).open(HOOKPOINT)))
        assert found == whole or str(folder) in found, (file, found)
