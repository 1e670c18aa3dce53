"""``featlas import`` and ``export`` as a user types them: gate, catalogue, labels, and back to a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.connection import connect

pytestmark = pytest.mark.engine
WIDTH = 128


def write_identity(folder: Path) -> None:
    """The simplest dictionary that fits any place: each neuron up and down, as SAELens would save it."""
    folder.mkdir()
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    tensors = {"W_enc": both.T.contiguous(), "W_dec": both}
    save_file(
        {**tensors, "b_enc": torch.zeros(2 * WIDTH), "b_dec": torch.zeros(WIDTH)},
        folder / "sae_weights.safetensors",
    )
    metadata = {
        "sae_lens_version": "6.54.12",
        "model_name": "pico-a",
        "hook_name": "blocks.2.hook_resid_post",
    }
    config = {"architecture": "standard", "d_in": WIDTH, "d_sae": 2 * WIDTH, "metadata": metadata}
    (folder / "cfg.json").write_text(json.dumps(config))


def run_import(user: Any, *arguments: str) -> dict[str, Any]:
    done = user.featlas(
        "import", "saelens", *arguments, "--catalog", str(user.folder / "catalogue"), "--json"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_an_import_is_gated_mined_labelled_and_exported_again(user: Any) -> None:
    folder, catalogue = user.folder / "identity", user.folder / "catalogue"
    write_identity(folder)
    small = {"context_length": 64, "n_tokens": 6_000, "eval_share": 0.25, "batch_sequences": 16}
    summary = run_import(user, str(folder), "--pipeline", str(user.pipeline(activations=small)))
    stages = [stage["stage"] for stage in summary["stages"]]
    assert stages == [
        "load_corpus",
        "describe_model",
        "gate_dictionary",
        "cache_activations",
        "import_dictionary",
        "evaluate_dictionary",
        "mine_examples",
        "explain_features",
        "score_explanations",
    ]
    with connect(catalogue) as connection:
        (row,) = connection.sql("select * from dictionaries").to_arrow_table().to_pylist()
        labels = connection.sql("select label from feature_cards where label is not null").to_arrow_table()
    assert (row["origin"], row["verified"], row["alias"]) == (
        "imported",
        True,
        "pico-a/blocks.2.resid_post/saelens-identity",
    )
    assert labels.num_rows > 0
    done = user.featlas("export", "saelens", row["alias"], "out", "--catalog", str(catalogue))
    assert done.returncode == 0, done.stderr
    written = load_file(user.folder / "out" / "sae_weights.safetensors")
    np.testing.assert_array_equal(
        written["W_dec"].numpy(), load_file(folder / "sae_weights.safetensors")["W_dec"]
    )
