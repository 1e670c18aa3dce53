"""``featlas import`` and ``export`` as a user types them: gate, catalogue, labels, and back to a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.connection import connect
from tasks.activations.models.embedded import embedded_model_path

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


def write_shared(path: Path) -> None:
    """A crosscoder of two equal models, as its fork saves it: each neuron, up and down, from both."""
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)]).expand(2, -1, -1).contiguous()
    tensors = {"encoder.weight": both.transpose(1, 2).contiguous() / 2, "decoder.weight": both}
    biases = {"encoder.bias": torch.zeros(2 * WIDTH), "decoder.bias": torch.zeros(2, WIDTH)}
    save_file({**tensors, **biases}, path)


def run_import(user: Any, *arguments: str) -> dict[str, Any]:
    done = user.featlas("import", *arguments, "--catalog", str(user.folder / "catalogue"), "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def test_an_import_is_gated_mined_labelled_and_exported_again(user: Any) -> None:
    folder, catalogue = user.folder / "identity", user.folder / "catalogue"
    write_identity(folder)
    small = {"context_length": 64, "n_tokens": 6_000, "eval_share": 0.25, "batch_sequences": 16}
    pipeline = str(user.pipeline(activations=small))
    summary = run_import(user, "saelens", str(folder), "--pipeline", pipeline)
    stages = [stage["stage"] for stage in summary["stages"]]
    assert stages == [
        "load_corpus",
        "describe_model",
        "gate_dictionary",
        "cache_activations",
        "import_dictionary",
        "evaluate_dictionary",
        "mine_examples",
        "associate_labels",
        "explain_features",
        "score_explanations",
        "measure_floors",
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


def test_a_crosscoder_of_two_models_is_imported_like_any_other(user: Any) -> None:
    write_shared(user.folder / "shared.safetensors")
    again = {"id": "again", "source": "local", "path": str(embedded_model_path("pico-a"))}
    small = {"context_length": 64, "n_tokens": 4_000, "eval_share": 0.25, "batch_sequences": 16}
    pipeline = user.pipeline(
        "two",
        models=[{"id": "pico-a", "source": "embedded"}, again],
        activations={**small, "hookpoints": ["blocks.2.resid_post"]},
    )
    summary = run_import(
        user,
        *("crosscoder", str(user.folder / "shared.safetensors"), "--pipeline", str(pipeline)),
        *("--model", "pico-a", "--model", "again", "--hookpoint", "blocks.2.resid_post"),
    )
    stages = [stage["stage"] for stage in summary["stages"]]
    assert stages.count("cache_activations") == stages.count("describe_model") == 2
    assert {"gate_dictionary", "import_dictionary", "mine_examples", "score_explanations"} <= set(stages)
    with connect(user.folder / "catalogue") as connection:
        (row,) = (
            connection.sql("select * from dictionaries where architecture = 'crosscoder'")
            .to_arrow_table()
            .to_pylist()
        )
        shared, labelled = connection.sql(
            "select count(*) filter (abs(f.relative_norm - 0.5) < 1e-6), count(c.label) from features f "
            "join feature_cards c using (dictionary_id, feature_index) where dictionary_id = $id",
            params={"id": row["dictionary_id"]},
        ).fetchall()[0]
    assert (row["origin"], row["verified"]) == ("imported", True)
    assert row["alias"] == "pico-a-and-again/blocks.2.resid_post/crosscoder-shared"
    assert [point["model_id"] for point in row["reads"]] == ["pico-a", "again"]
    assert shared == 2 * WIDTH
    assert labelled > 0
