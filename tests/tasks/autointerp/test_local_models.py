"""Models in this process against one text at a time, by hand; and what a folder must hold."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.errors import UserError
from tasks.activations.models.embedded import embedded_model_path
from tasks.activations.models.language_model import load_language_model
from tasks.autointerp.local_models import CausalModel, Encoder, local_model, pooling_of
from tasks.autointerp.scorer import SCORERS
from tests.tasks.autointerp.local_folders import known_encoder, random_encoder

WORDS = ("red", "green", "blue", "and", "one")
TEXTS = ["red red green", "blue", "", "one and one and one and green", "a giraffe", "red"]
CODE = ["def f(x):\n    return x", "import os", "the fox", "", "x"]


def test_cosines_are_those_of_the_sums_of_words(tmp_path: Path) -> None:
    """(2 red + green) against red is 2/√5; unknown words and an empty text have no direction."""
    encoder = Encoder(str(known_encoder(tmp_path / "encoder", WORDS)), "mean")
    red, mixed, blue, nothing, empty = encoder.encode(["red", "red red green", "blue", "a giraffe", ""])
    assert float(red @ mixed) == pytest.approx(2 / math.sqrt(5), abs=1e-6)
    assert float(red @ blue) == pytest.approx(0.0, abs=1e-6)
    assert np.allclose(nothing, 0)
    assert np.allclose(empty, 0)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_has_the_same_vector_in_any_batch(tmp_path: Path, pooling: str) -> None:
    encoder = Encoder(str(random_encoder(tmp_path / "encoder", WORDS)), pooling)  # type: ignore[arg-type]
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1)
    assert np.abs(together @ together.T - 1).max() > 1e-3, "texts differ"


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    encoder = Encoder(str(random_encoder(tmp_path / "encoder", WORDS)), "mean")
    assert np.isfinite(encoder.encode(["red " * 500])).all()


def loss_by_hand(prompt: str, text: str) -> float:
    """Mean of -log p of each token of the text, from one forward pass."""
    loaded = load_language_model(local_model("pico-a"), "cpu")
    start = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    own = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = [loaded.spec.bos_token_id, *start, *own]
    logits = loaded.model(torch.tensor([ids])).logits[0]
    logs = torch.log_softmax(logits, dim=-1)
    n = len(own)
    return float(-sum(logs[len(ids) - n - 1 + i, own[i]] for i in range(n)) / n)


def test_losses_are_those_of_one_text_after_its_prompt_whatever_came_before() -> None:
    """No state is left: the same call gives the same losses, after other prompts too."""
    model = CausalModel("pico-a")
    first = model.losses("Some code:\n\n", CODE)
    model.losses("Something else that is longer than the other prompt:\n\n", CODE[:2])
    again = model.losses("Some code:\n\n", CODE)
    assert np.array_equal(first, again, equal_nan=True)
    by_hand = [loss_by_hand("Some code:\n\n", text) for text in CODE if text]
    assert first[[0, 1, 2, 4]] == pytest.approx(by_hand, abs=1e-4)
    assert np.isnan(first[3])
    alone = np.concatenate([model.losses("Some code:\n\n", [text]) for text in CODE])
    assert np.allclose(first, alone, atol=1e-4, equal_nan=True)


def test_what_is_longer_than_the_context_is_cut() -> None:
    """256 tokens: the text keeps its first half context, the prompt its ends."""
    model = CausalModel("pico-a")
    assert np.isfinite(model.losses("about " * 400, ["word " * 400, "word"])).all()


def headless(folder: Path) -> None:
    """pico-a without the matrix of its logits."""
    shutil.copytree(embedded_model_path("pico-a"), folder)
    path = next(folder.glob("*.safetensors"))
    weights = {name: w for name, w in load_file(path).items() if not name.startswith("lm_head")}
    save_file({name.removeprefix("model."): w for name, w in weights.items()}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "architectures": ["LlamaModel"], "tie_word_embeddings": False})
    )


def test_what_is_missing_is_one_sentence_before_anything_runs(tmp_path: Path) -> None:
    bare = random_encoder(tmp_path / "bare", WORDS, pooling=None)
    largest = random_encoder(tmp_path / "largest", WORDS, pooling="max")
    headless(tmp_path / "headless")
    (tmp_path / "empty").mkdir()
    cases = [
        ("embedding", str(tmp_path / "nowhere"), "model folder .*nowhere does not exist: check 'model'"),
        ("embedding", str(tmp_path / "empty"), "has no config.json"),
        ("embedding", "no-such-model", "'no-such-model' does not exist"),
        ("embedding", str(bare), "no 1_Pooling/config.json, so it is unknown how .* set pooling to mean"),
        ("embedding", str(largest), "asks for pooling_mode_max_tokens, which featlas does not do"),
        ("surprisal", str(bare), "is a masked language model: surprisal needs a causal one"),
        ("surprisal", str(tmp_path / "headless"), "has no language-model head"),
    ]
    for scorer, model, sentence in cases:
        kind = SCORERS[scorer]
        config = kind.Config.model_validate({"scorer": scorer, "model": model})
        with pytest.raises(UserError, match=sentence) as said:
            kind.check_config(config)
        assert "\n" not in str(said.value)
    kind = SCORERS["embedding"]
    kind.check_config(
        kind.Config.model_validate({"scorer": "embedding", "model": str(bare), "pooling": "mean"})
    )
    SCORERS["surprisal"].check_config(SCORERS["surprisal"].Config(scorer="surprisal", model="pico-a"))


def test_the_folder_says_how_to_pool(tmp_path: Path) -> None:
    assert pooling_of(str(random_encoder(tmp_path / "a", WORDS))) == "mean"
    assert pooling_of(str(random_encoder(tmp_path / "b", WORDS, pooling="cls"))) == "cls"
