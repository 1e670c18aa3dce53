"""Rules in words."""

import pytest

from tasks.autointerp.lexicon.rule import (
    Both,
    Except,
    JoinedRule,
    LabelRule,
    PositionRule,
    Rule,
    TokenRule,
)
from tasks.autointerp.lexicon.wording import in_words


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (TokenRule("is", (" def",)), '"def"'),
        (TokenRule("is", (" def", "def")), '"def"'),
        (TokenRule("is", ("\n", "\t")), "a line break or a tab"),
        (TokenRule("is", ("\n\n    ", "   ")), "an empty line and 4 blanks or 3 blanks"),
        (TokenRule("is", (".\n", "\n@")), '"." at the end of a line or "@" at the start of a line'),
        (TokenRule("is", tuple("abcdef")), '"a", "b", "c", "d" and 2 more'),
        (
            Both((PositionRule("line_start"), TokenRule("is", (" def",)))),
            '"def" at the start of a line',
        ),
        (
            Both((TokenRule("class", ("digits",)), TokenRule("is", (" v",), "previous"))),
            'digits right after "v"',
        ),
        (
            Except(TokenRule("class", ("lowercase",)), (" the",)),
            'lower-case words, but not on "the"',
        ),
        (LabelRule("language", "fr"), 'tokens in documents whose language is "fr"'),
        (PositionRule("repeat"), "words that occurred before in the context"),
        (PositionRule("context_start"), "the first 4 tokens that the model reads (start of a chunk)"),
        (PositionRule("attribute"), 'names after "self."'),
        (PositionRule("sentence_start"), "the first word of a sentence"),
        (TokenRule("is", (" ==",), "previous"), 'what follows "=="'),
        (TokenRule("class", ("closing_bracket",), "next"), "what precedes closing brackets"),
        (JoinedRule(("running",)), '"running"'),
        (Both((JoinedRule(("running",)), PositionRule("line_start"))), '"running" at the start of a line'),
        (
            Both((TokenRule("class", ("word_inside",)), TokenRule("class", ("capitalised",)))),
            "capitalised words inside a word",
        ),
        (
            Both((TokenRule("class", ("lowercase",)), TokenRule("is", ("(",), "next"))),
            'lower-case words right before "("',
        ),
        (
            Both((TokenRule("is", ("a",)), PositionRule("context_first"))),
            '"a" at the very start of what the model reads',
        ),
        (TokenRule("word", ("def", "if")), '"def" or "if" in any case'),
        (TokenRule("word", ("#",)), '"#"'),
    ],
)
def test_rules_in_words(rule: Rule, words: str) -> None:
    assert in_words(rule) == words


def test_direction_marks_are_made_visible() -> None:
    assert in_words(TokenRule("is", ("\u202eabc",))) == '"\\u202eabc"'
