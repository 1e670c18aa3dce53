"""Folders of tiny models that measure contexts: an encoder whose cosines are known, and random ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizer(folder: Path, words: Sequence[str]) -> None:
    """A tokenizer whose tokens are words; others are unknown."""
    ids = {word: place for place, word in enumerate((*SPECIAL, *words))}
    plain = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    plain.pre_tokenizer = WhitespaceSplit()
    ends = [(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    plain.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    PreTrainedTokenizerFast(tokenizer_object=plain, **dict(zip(names, SPECIAL, strict=True))).save_pretrained(
        folder
    )


def _config(n_words: int, d_model: int) -> BertConfig:
    return BertConfig(
        vocab_size=len(SPECIAL) + n_words,
        hidden_size=d_model,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=64,
        initializer_range=0.5,
    )


def known_encoder(folder: Path, words: Sequence[str], *, pooling: str | None = "mean") -> Path:
    """An encoder in which the vectors of two words are orthogonal, of equal length, and add up.

    Word w has the embedding (1, -1) at coordinates 2w and 2w + 1. The layer adds nothing, and the norms of a
    vector without a mean change its length alone. Special and unknown tokens are the null vector.
    """
    torch.manual_seed(0)
    model = BertModel(_config(len(words), 2 * len(words))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "LayerNorm" not in name:
                weight.zero_()
        for place in range(len(words)):
            row = model.embeddings.word_embeddings.weight[len(SPECIAL) + place]
            row[2 * place], row[2 * place + 1] = 1.0, -1.0
    return _saved(folder, model, words, pooling)


def random_encoder(folder: Path, words: Sequence[str], *, pooling: str | None = "mean") -> Path:
    """A masked language model with random weights."""
    torch.manual_seed(0)
    return _saved(folder, BertForMaskedLM(_config(len(words), 16)).eval(), words, pooling)


def _saved(folder: Path, model: "torch.nn.Module", words: Sequence[str], pooling: str | None) -> Path:
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer(folder, words)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        names = ("mean_tokens", "cls_token", "max_tokens")
        modes = {f"pooling_mode_{name}": name.startswith(pooling) for name in names}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 1} | modes))
    return folder
