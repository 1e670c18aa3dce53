"""Tokens joined are the document's text, whatever the tokenizer and the text."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tasks.mining.texts import CutTokens, cut_tokens

ZOO = [
    "family: 👨‍👩‍👧‍👦 flag: 🇫🇷 skin: 👍🏽",
    "שלום עולם مرحبا بالعالم",
    "bidi \u202eoverride\u202c and \u2066isolate\u2069",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00adsoft",
    "<script>alert('x')</script> ![](http://example.org/a.png) &amp; <b>",
    "NUL \x00 inside\r\nCRLF\ttab",
    "combining e\u0301 a\u0300\u0323 and Ångström ﬁ",
    "漢字とかな混じり文、한국어",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 beyond the basic plane 🜁🜂",
    "   leading and   many    blanks   ",
    "",
]


def _byte_level(add_prefix_space: bool, trim_offsets: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(ZOO, trainer)
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(ZOO, trainer)
    return tokenizer


def _sentence_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(ZOO, trainer)
    return tokenizer


TOKENIZERS = {
    "byte-level": _byte_level(False, False),
    "byte-level, trimmed": _byte_level(True, True),
    "WordPiece": _word_piece(),
    "SentencePiece": _sentence_piece(),
}


def _cut(text: str, offsets: list[tuple[int, int]]) -> tuple[list[str], CutTokens]:
    bounds = np.array(offsets, dtype=np.int64).reshape(1, -1, 2)
    cut = cut_tokens(pa.chunked_array([[text]]), np.zeros(1, dtype=np.int64), bounds[..., 0], bounds[..., 1])
    return cut.to_arrow(np.array([len(offsets)])).to_pylist()[0], cut


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_unicode_zoo_survives(name: str) -> None:
    for text in ZOO:
        offsets = TOKENIZERS[name].encode(text, add_special_tokens=False).offsets
        for begin in range(len(offsets)):
            for end in range(begin + 1, min(begin + 9, len(offsets)) + 1):
                pieces, cut = _cut(text, offsets[begin:end])
                assert len(pieces) == end - begin
                assert "".join(pieces) == text[cut.char_start_W[0] : cut.char_end_W[0]]
                wide = [(a, b) for a, b in offsets[begin:end] if b > a]
                if wide:
                    assert cut.char_start_W[0] == wide[0][0]
                    assert cut.char_end_W[0] == max(b for _, b in wide)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.sampled_from(sorted(TOKENIZERS)), st.data())
def test_any_text_survives(text: str, name: str, data: st.DataObject) -> None:
    offsets = TOKENIZERS[name].encode(text, add_special_tokens=False).offsets
    assume(offsets)
    begin = data.draw(st.integers(0, len(offsets) - 1))
    pieces, cut = _cut(text, offsets[begin:])
    assert "".join(pieces) == text[cut.char_start_W[0] : cut.char_end_W[0]]


def test_further_tokens_of_one_character_are_empty() -> None:
    text = "a👍b"
    offsets = TOKENIZERS["byte-level"].encode(text).offsets
    pieces, _ = _cut(text, offsets)
    assert [piece for piece in pieces if piece] == ["a", "👍", "b"]
    assert pieces.count("") == len(offsets) - 3 > 0


def test_a_gap_belongs_to_the_token_after_it() -> None:
    pieces, _ = _cut("ab  cd", [(0, 2), (4, 6)])
    assert pieces == ["ab", "  cd"]


def test_a_token_of_no_width_is_empty_wherever_it_stands() -> None:
    """BOS of a later chunk has the offsets of the chunk's begin, or (0, 0) in some tokenizers."""
    assert _cut("abcdef", [(0, 0), (4, 5), (5, 6)])[0] == ["", "e", "f"]
    assert _cut("abcdef", [(2, 3), (0, 0), (3, 6)])[0] == ["c", "", "def"]
    pieces, cut = _cut("abcdef", [(3, 3)])
    assert (pieces, cut.char_start_W[0], cut.char_end_W[0]) == ([""], 3, 3)


def test_rows_of_several_documents_keep_their_order() -> None:
    texts = pa.chunked_array([["naïve", "xyz"], ["猫🙂"]])
    start = np.array([[0, 2], [1, 2], [0, 1], [0, 1]])
    end = np.array([[2, 3], [2, 3], [1, 2], [1, 2]])
    cut = cut_tokens(texts, np.array([0, 1, 2, 1]), start, end)
    assert cut.to_arrow(np.full(4, 2)).to_pylist() == [["na", "ï"], ["y", "z"], ["猫", "🙂"], ["x", "y"]]
