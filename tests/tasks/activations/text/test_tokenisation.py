"""Offsets cover the text whatever is in it; the order of documents is a fair, fixed shuffle."""

from collections.abc import Callable
from types import SimpleNamespace

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tasks.activations.models.language_model import LanguageModel
from tasks.activations.text.tokenisation import sampled_order, tokenise

ZOO = [
    "family 👩‍👩‍👧‍👦 and flag 🇦🇹",
    "right to left שלום עולם and back",
    "bidi \u202eoverride\u202c and zero\u200bwidth\u200d joiner",
    "nul \x00 and\r\nCRLF\tTab",
    "<script>alert(1)</script> ![](http://example.org/x.png)",
    "combining e\u0301 a\u0308 and ﬁ ligature",
    "control words <s> </s> <pad> <mask> in the text",
    "replacement \ufffd here",
]


@pytest.mark.parametrize("text", ZOO)
def test_offsets_cover_the_text_in_order(language_model: Callable[[str], LanguageModel], text: str) -> None:
    tokenizer = language_model("llama").tokenizer
    (document,) = tokenise(tokenizer, pa.chunked_array([[text]]), [0], 1_000)
    covered: set[int] = set()
    for start, end in zip(document.char_start, document.char_end, strict=True):
        covered |= set(range(start, end))
    assert covered == set(range(len(text)))
    assert (document.char_start[1:] >= document.char_start[:-1]).all()
    specials = set(tokenizer.all_special_ids)
    assert not specials & set(document.token_ids.tolist())


def test_empty_documents_are_left_out_and_rows_keep_their_numbers(
    language_model: Callable[[str], LanguageModel],
) -> None:
    texts = pa.chunked_array([["", "one"], ["two", ""]])
    documents = list(tokenise(language_model("llama").tokenizer, texts, [3, 2, 0, 1], 1_000))
    assert [document.document_index for document in documents] == [2, 1]


def test_giant_document_is_read_no_further_than_needed(
    language_model: Callable[[str], LanguageModel],
) -> None:
    texts = pa.chunked_array([["word " * 200_000]])
    (document,) = tokenise(language_model("llama").tokenizer, texts, [0], 50)
    assert 50 <= len(document.token_ids) <= 50 * 64


def test_order_is_shuffled_fixed_and_by_seed(corpus: SimpleNamespace) -> None:
    order = sampled_order(corpus.table, "train", 0)
    assert order == sampled_order(corpus.table, "train", 0)
    assert order != sorted(order)
    assert order != sampled_order(corpus.table, "train", 1)
    assert sorted(order) == [i for i in range(40) if i % 5 != 4]
    assert sorted(sampled_order(corpus.table, "eval", 0)) == [i for i in range(40) if i % 5 == 4]


def test_order_does_not_depend_on_where_rows_stand(corpus: SimpleNamespace) -> None:
    names = corpus.table["document_id"].to_pylist()
    turned = corpus.table.take(list(reversed(range(40))))
    turned_names = turned["document_id"].to_pylist()
    before = [names[i] for i in sampled_order(corpus.table, "train", 3)]
    assert [turned_names[i] for i in sampled_order(turned, "train", 3)] == before


WORDS = ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c", "<", ">", "/", "s"]
MODELS: dict[str, Callable[[], Tokenizer]] = {
    "unigram": lambda: _unigram(),
    "word level": lambda: _split(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    ),
    "word piece": lambda: _split(
        models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    ),
    "whole words of BPE": lambda: _split(
        models.BPE({word: i for i, word in enumerate(WORDS)}, [], unk_token="<unk>", ignore_merges=True)
    ),
}


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=WORDS[:4], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(["a b c < > / s abc cab bca " * 9], trainer)
    return tokenizer


def _split(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize("kind", MODELS)
def test_control_words_in_a_text_are_text_for_every_kind_of_tokenizer(kind: str) -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=MODELS[kind](),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    plain, spelt = "a b c", "a </s> b <s><pad> c"
    rows = pa.chunked_array([[plain, spelt, "a <unk> c"]])
    without, with_words, unknown = tokenise(tokenizer, rows, [0, 1, 2], 100)
    assert not {0, 1, 2} & set(with_words.token_ids.tolist())
    assert without.token_ids.tolist() == tokenizer(plain, add_special_tokens=False)["input_ids"]
    ends = [
        spelt[start:end].strip()
        for start, end in zip(with_words.char_start, with_words.char_end, strict=True)
    ]
    assert (ends[0], ends[-1]) == ("a", "c")
    if kind == "unigram":
        place = unknown.token_ids.tolist().index(3)  # u, n and k are no tokens of this one; < and > are
        assert "a <unk> c"[unknown.char_start[place] : unknown.char_end[place]] == "unk"


def test_control_words_of_a_chat_stay_control_tokens() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_unigram(), bos_token="<s>", eos_token="</s>")
    (document,) = tokenise(tokenizer, pa.chunked_array([["a </s> b"]]), [0], 100, has_special_tokens=True)
    assert tokenizer.eos_token_id in document.token_ids.tolist()
