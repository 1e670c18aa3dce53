"""Offsets cover the text whatever is in it; the order of documents is a fair, fixed shuffle."""

from collections.abc import Callable
from types import SimpleNamespace

import pyarrow as pa
import pytest

from tasks.activations.language_model import LanguageModel
from tasks.activations.tokenisation import sampled_order, tokenise

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
