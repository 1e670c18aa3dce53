"""Small random models of every layout, with a tokenizer trained on the spot."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast

from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model

ENCODERS = ("bert", "roberta", "distilbert")
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 5},
    "qwen2": {
        "num_key_value_heads": 2,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "gemma": {"num_key_value_heads": 2, "head_dim": 16},
    "gemma2": {"num_key_value_heads": 2, "head_dim": 16, "sliding_window": 5},
    "gemma3_text": {"num_key_value_heads": 2, "head_dim": 16, "sliding_window": 5},
    "gpt2": {},
    "gpt_neox": {"use_parallel_residual": True},
    "gpt_neox_sequential": {"use_parallel_residual": False},
    "bert": {},
    "roberta": {"type_vocab_size": 1},
    "distilbert": {},
}
FAMILIES = tuple(CONFIGS)
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
SENTENCES = (
    "The keeper of the lighthouse counted the ships that came in before the storm. ",
    "def total(values): return sum(value for value in values if value > 0)\n",
    "Every morning she walked along the river, and every evening she walked back. ",
    "A theorem is only as good as the proof that somebody else can follow. ",
)


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        cls_token="<s>",
        sep_token="</s>",
    )


def build_model_folder(family: str, folder: Path, **changes: Any) -> Path:
    """A random model of a family saved in the Transformers layout: 3 blocks, width 32, 4 heads."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "intermediate_size": 48,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    } | CONFIGS[family]
    settings |= changes
    if family == "gpt2":
        settings["n_inner"] = settings.pop("intermediate_size")
    if family == "distilbert":
        settings["hidden_dim"] = settings.pop("intermediate_size")
    config = AutoConfig.for_model(family.removesuffix("_sequential"), **settings)
    auto_class = AutoModelForMaskedLM if family in ENCODERS else AutoModelForCausalLM
    model = auto_class.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than the default: attention and norms must matter
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModelConfig]:
    """The configuration of a saved random model of a family."""
    made: dict[str, ModelConfig] = {}

    def make(family: str) -> ModelConfig:
        if family not in made:
            folder = build_model_folder(family, tmp_path_factory.mktemp("models") / family)
            made[family] = ModelConfig(id=family, source="local", path=str(folder))
        return made[family]

    return make


@pytest.fixture(scope="session")
def language_model(model_config: Callable[[str], ModelConfig]) -> Callable[[str], LanguageModel]:
    """A loaded random model of a family, on the CPU."""
    loaded: dict[str, LanguageModel] = {}

    def load(family: str) -> LanguageModel:
        if family not in loaded:
            loaded[family] = load_language_model(model_config(family), device="cpu")
        return loaded[family]

    return load


@pytest.fixture(scope="session")
def corpus() -> SimpleNamespace:
    """Forty documents of uneven length; one in five belongs to the eval split."""
    return make_corpus([SENTENCES[i % 4] * (1 + i % 7) + f"Document {i}." for i in range(40)])


def make_corpus(texts: list[str], digest: str = "0" * 64) -> SimpleNamespace:
    """What caching needs of a corpus: its table and its digest."""
    table = pa.table(
        {
            "document_id": [f"d{i}" for i in range(len(texts))],
            "split": pa.array(["eval" if i % 5 == 4 else "train" for i in range(len(texts))], pa.string()),
            "n_chars": pa.array([len(text) for text in texts], pa.int64()),
            "text": pa.array(texts, pa.string()),
            "labels": pa.array([[("kind", "test")] for _ in texts], pa.map_(pa.string(), pa.string())),
        }
    )
    return SimpleNamespace(table=table, digest=digest, chat_template=None)


@pytest.fixture(scope="session")
def corpus_of() -> Callable[..., SimpleNamespace]:
    """Builds a corpus from texts."""
    return make_corpus


@pytest.fixture(scope="session")
def model_builder() -> Callable[..., Path]:
    """Builds a model folder of a family with changed settings."""
    return build_model_folder
