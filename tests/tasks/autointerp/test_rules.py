"""The grammar of rules: what holds where, stored and read back, said in words."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.autointerp.lexicon.objective import pack
from tasks.autointerp.lexicon.rule import (
    Both,
    Constant,
    Either,
    Except,
    JoinedRule,
    LabelRule,
    PositionRule,
    Rule,
    TokenRule,
    rule_from_json,
)
from tasks.autointerp.lexicon.search import RuleSearch, SearchLimits
from tasks.autointerp.lexicon.vocabulary import TOKEN_CLASSES, Vocabulary
from tasks.autointerp.lexicon.wording import in_words
from tests.searching import examples
from tests.tasks.autointerp.planted import SPECIAL, windows_of

PIECES = [
    " star",
    "t",
    "ing",
    ".",
    "\n",
    "Start",
    " self",
    ".",
    "run",
    "(",
    "cls",
    "._x",
    "t",
    " e",
    ".",
    "g",
    '?"',
    " Yes",
]
TEXT = [" def", " run", "(", "self", ")", ":", "\n", "    ", " return", " Run", " 42", "\n", " def"]


def where(rule: Rule, tokens: list[str] = TEXT, start: int = 7) -> list[int]:
    windows = windows_of([tokens, tokens[:3]], starts=[start, start])
    return np.flatnonzero(rule.holds(windows)[0]).tolist()


@pytest.mark.parametrize(
    ("rule", "positions"),
    [
        (TokenRule("is", (" def",)), [0, 12]),
        (TokenRule("is", ("(", ")")), [2, 4]),
        (TokenRule("is", ("absent",)), []),
        (TokenRule("word", ("run",)), [1, 9]),
        (TokenRule("starts", ("re",)), [8]),
        (TokenRule("ends", ("f",)), [0, 3, 12]),
        (TokenRule("contains", ("etu",)), [8]),
        (TokenRule("contains", ("e",)), [0, 3, 8, 12]),
        (TokenRule("class", ("digits",)), [10]),
        (TokenRule("class", ("newline",)), [6, 11]),
        (TokenRule("class", ("indentation",)), [7]),
        (TokenRule("class", ("capitalised",)), [9]),
        (TokenRule("class", ("punctuation",)), [2, 4, 5]),
        (TokenRule("is", (" def",), "previous"), [1]),
        (TokenRule("is", ("(",), "next"), [1]),
        (TokenRule("is", (" run",), "before"), [2, 3, 4, 5, 6]),
        (TokenRule("is", (" return",), "line"), [9, 10, 11]),
        (PositionRule("line_start"), [7, 8, 12]),
        (PositionRule("line_end"), [5, 10]),
        (PositionRule("repeat"), [12]),
        (PositionRule("near_repeat"), []),
        (PositionRule("document_start"), []),
        (Both((TokenRule("is", (" def",)), PositionRule("line_start"))), [12]),
        (Either((TokenRule("is", ("(",)), TokenRule("is", (":",)))), [2, 5]),
        (Except(TokenRule("class", ("punctuation",)), (":",)), [2, 4]),
        (Constant(False), []),
        (Constant(True), list(range(13))),
    ],
)
def test_rule_holds_where_it_says(rule: Rule, positions: list[int]) -> None:
    assert where(rule) == positions
    assert rule_from_json(rule.to_json()) == rule
    assert in_words(rule)


@pytest.mark.parametrize(
    ("rule", "positions"),
    [
        (JoinedRule(("starting",)), [2]),
        (JoinedRule(("start", "xt")), [1, 5, 12]),
        (JoinedRule(("t", "")), []),
        (PositionRule("sentence_start"), [5, 17]),
        (PositionRule("attribute"), [8, 11]),
        (TokenRule("class", ("sentence_end",)), [3, 7, 14]),
    ],
)
def test_rules_about_words_of_several_tokens(rule: Rule, positions: list[int]) -> None:
    assert where(rule, PIECES) == positions
    assert rule_from_json(rule.to_json()) == rule


def test_words_of_a_list_are_whole_words() -> None:
    tokens = [" d", "is", " is", " is", "land", " She", "."]
    assert where(TokenRule("class", ("auxiliary",)), tokens) == [2]
    assert where(TokenRule("class", ("auxiliary",), "previous"), tokens) == [3]
    assert where(TokenRule("class", ("pronoun",)), tokens) == [5]


def test_a_word_that_may_have_begun_before_the_window_is_unknown() -> None:
    assert where(JoinedRule(("ning",)), ["ning", "s", " ning"]) == [2]
    assert where(JoinedRule(("ning",)), ["ning", "s", " ning"], start=0) == [0, 2]
    assert where(JoinedRule(("nings",)), ["ning", "s", " ning"]) == []


def test_rules_of_the_second_grammar_are_read() -> None:
    stored = (
        '{"of":[{"op":"token","place":"here","test":"is","values":[" def"]},'
        '{"name":"line_start","op":"position"}],"op":"and"}'
    )
    assert rule_from_json(stored) == Both((TokenRule("is", (" def",)), PositionRule("line_start")))


def test_start_of_a_document_is_the_start_of_a_line() -> None:
    assert where(PositionRule("document_start"), start=0) == [0]
    assert where(PositionRule("line_start"), start=0) == [0, 7, 8, 12]
    assert where(PositionRule("context_start"), start=0) == [0, 1, 2, 3]
    assert where(PositionRule("context_start"), start=2) == [0, 1]
    assert where(PositionRule("context_first"), start=0) == [0]
    assert where(PositionRule("context_first"), start=2) == []


def test_labels_are_those_of_the_document() -> None:
    windows = windows_of([["a"], ["b"]], documents=["x", "y"], labels={"x": {"language": "fr"}})
    assert LabelRule("language", "fr").answers(windows).tolist() == [True, False]
    assert LabelRule("language", "en").answers(windows).tolist() == [False, False]


def test_padding_satisfies_nothing() -> None:
    windows = windows_of([["a", "b", "c"], ["a"]])
    for rule in (Constant(True), TokenRule("class", ("character_rest",)), TokenRule("is", ("",))):
        assert not rule.holds(windows)[1, 1:].any()


def test_further_bytes_of_a_character_are_empty_tokens() -> None:
    windows = windows_of([["🙂", "", "", " ok"]])
    assert TokenRule("class", ("character_rest",)).holds(windows).tolist() == [[False, True, True, False]]


WITH_SPECIAL = [SPECIAL, "🙂", "", "def", "\n", "def"]


@pytest.mark.parametrize(
    ("rule", "positions"),
    [
        (TokenRule("class", ("special",)), [0]),
        (TokenRule("class", ("character_rest",)), [2]),
        (TokenRule("is", ("",)), [2]),
        (TokenRule("class", ("character_rest",), "before"), [3, 4, 5]),
        (TokenRule("is", ("",), "previous"), [3]),
        (PositionRule("context_first"), [1]),
        (PositionRule("context_start"), [1, 2, 3, 4]),
        (PositionRule("document_start"), [1]),
        (PositionRule("line_start"), [1, 5]),
        (PositionRule("repeat"), [5]),
    ],
)
def test_a_special_token_is_not_text_and_no_text_is_not_special(rule: Rule, positions: list[int]) -> None:
    """Each rule says one thing: about text, or about where the text begins."""
    assert where(rule, WITH_SPECIAL, start=0) == positions


@pytest.mark.parametrize("name", [name for name in TOKEN_CLASSES if name != "special"])
def test_no_class_but_its_own_holds_a_special_token(name: str) -> None:
    windows = windows_of([[SPECIAL, "x"]])
    assert not TokenRule("class", (name,)).holds(windows)[0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"op": "eval", "code": "1"}',
        '{"op": "token", "test": "regex", "values": ["a"], "place": "here"}',
        '{"op": "token", "test": "class", "values": ["nonsense"], "place": "here"}',
        '{"op": "token", "test": "is", "values": [], "place": "here"}',
        '{"op": "position", "name": "moon"}',
        '{"op": "joined", "values": []}',
        '{"op": "and", "of": []}',
        '{"op": "and"}',
        "not json",
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|unknown|Expecting|of nothing"):
        rule_from_json(text)


texts = st.text(st.sampled_from("ab A1.\né "), max_size=4)
simple = st.one_of(
    st.builds(
        TokenRule,
        st.sampled_from(["is", "word", "starts", "ends", "contains"]),
        st.tuples(texts.filter(bool)),
        st.sampled_from(["here", "previous", "next", "before", "line"]),
    ),
    st.builds(lambda name: TokenRule("class", (name,)), st.sampled_from(sorted(TOKEN_CLASSES))),
    st.builds(PositionRule, st.sampled_from(["line_start", "line_end", "repeat", "near_repeat"])),
    st.builds(PositionRule, st.sampled_from(["sentence_start", "attribute"])),
    st.builds(JoinedRule, st.tuples(st.text(st.sampled_from("abé"), min_size=1, max_size=4))),
)
rules = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(lambda a, b: Both((a, b)), inner, inner),
        st.builds(lambda a, b: Either((a, b)), inner, inner),
        st.builds(lambda a, v: Except(a, (v,)), inner, texts),
    ),
    max_leaves=4,
)


@settings(max_examples=examples(150), deadline=None)
@given(rule=rules, windows=st.lists(st.lists(texts, min_size=1, max_size=8), min_size=1, max_size=4))
def test_rules_survive_json_and_do_not_depend_on_the_company(rule: Rule, windows: list[list[str]]) -> None:
    """A window is judged alike alone and among others, and by the rule that was stored."""
    together = windows_of(windows)
    stored = rule_from_json(json.dumps(json.loads(rule.to_json())))
    assert (stored.holds(together) == rule.holds(together)).all()
    for i, tokens in enumerate(windows):
        assert rule.answers(windows_of([tokens]))[0] == rule.answers(together)[i]


def test_bits_are_packed_64_to_a_word() -> None:
    mask = np.zeros((2, 70), bool)
    mask[0, 0] = mask[1, 69] = True
    packed = pack(mask)
    assert packed.shape == (2, 2)
    assert np.bitwise_count(packed).tolist() == [[1, 0], [0, 1]]


def test_vocabulary_answers_each_test_once() -> None:
    vocabulary = Vocabulary(["a", "ab"])
    assert vocabulary.table("starts", ("a",)) is vocabulary.table("starts", ("a",))
    assert not vocabulary.table("is", ("a",)).flags.writeable


def test_search_without_negatives_still_finds_the_token() -> None:
    windows = windows_of(
        [["x", "y", " go"], ["z", " go", "w"]], activations=[[0, 0, 1.0], [0, 1.0, 0]], documents=["a", "b"]
    )
    found = RuleSearch(windows, np.zeros(2, int), SearchLimits()).run()
    assert found.rule.holds(windows).tolist() == [[False, False, True], [False, True, False]]


def test_search_on_a_single_document_finds_nothing() -> None:
    windows = windows_of([[" only"]], activations=[[1.0]])
    found = RuleSearch(windows, np.zeros(1, int), SearchLimits()).run()
    assert (found.rule, found.holds_up) == (Constant(False), False)
