"""Reading an activation set: any order, any split, with its tokens."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from catalog.errors import UserError
from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.shards import ActivationSet

HOOKPOINT = "blocks.1.resid_post"


@pytest.fixture(scope="module")
def activation_set(
    language_model: Callable[[str], LanguageModel],
    corpus: SimpleNamespace,
    tmp_path_factory: pytest.TempPathFactory,
) -> ActivationSet:
    config = ActivationsConfig(
        hookpoints=(HOOKPOINT,),
        context_length=16,
        n_tokens=1_000,
        eval_share=0.3,
        batch_sequences=4,
        shard_mebibytes=0.01,
    )
    scratch = tmp_path_factory.mktemp("scratch")
    return cache_activations(language_model("llama"), corpus, config, scratch).open(HOOKPOINT)


def test_any_order_gives_the_rows_asked_for(activation_set: ActivationSet) -> None:
    everything = activation_set.read(activation_set.sequence_rows())
    assert everything.shape == (activation_set.n_sequences, 16, 32)
    assert everything.dtype == activation_set.dtype == np.float16
    assert len(activation_set.shards) >= 5
    rows = np.random.default_rng(0).permutation(activation_set.n_sequences)[:40]
    rows[5] = rows[3]
    assert np.array_equal(activation_set.read(rows), everything[rows])
    assert activation_set.read([]).shape == (0, 16, 32)


def test_batches_cover_a_split_with_its_mask(activation_set: ActivationSet) -> None:
    rows = activation_set.sequence_rows("eval")
    seen = []
    for chosen, values, valid in activation_set.batches(rows, 5):
        assert values.shape == (len(chosen), 16, 32)
        assert np.array_equal(valid, activation_set.tokens.valid[chosen])
        seen += chosen.tolist()
    assert seen == rows.tolist()


def test_splits_partition_the_sequences(activation_set: ActivationSet) -> None:
    train, evaluation = (set(activation_set.sequence_rows(split).tolist()) for split in ("train", "eval"))
    assert not train & evaluation
    assert train | evaluation == set(range(activation_set.n_sequences))
    assert set(activation_set.tokens.split[sorted(evaluation)]) == {"eval"}


def test_values_are_the_callers_own(activation_set: ActivationSet) -> None:
    values = activation_set.read([0])
    values[:] = 0
    assert activation_set.read([0]).any()


@pytest.mark.parametrize("rows", [[-1], [10_000]])
def test_sequences_that_are_not_there(activation_set: ActivationSet, rows: list[int]) -> None:
    with pytest.raises(IndexError):
        activation_set.read(rows)


def test_set_may_be_moved(activation_set: ActivationSet, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(activation_set.folder, tmp_path / "elsewhere"))
    reopened = ActivationSet.open(moved)
    assert np.array_equal(reopened.read([3, 1]), activation_set.read([3, 1]))
    assert reopened.verify() == []
    assert not any(str(activation_set.folder) in path.read_text() for path in moved.rglob("*.json"))


def test_many_shards_do_not_use_up_file_handles(
    activation_set: ActivationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.activations.reading.shards._OPEN_SHARDS", 2)
    reopened = ActivationSet.open(activation_set.folder)
    reopened.read(reopened.sequence_rows())
    assert len(reopened._open) == 2
    assert np.array_equal(reopened.read([0]), activation_set.read([0]))


def test_unfinished_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished activation set"):
        ActivationSet.open(tmp_path)
