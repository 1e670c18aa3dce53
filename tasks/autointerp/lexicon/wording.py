"""Puts rules into words: the phrases of a lexical explanation."""

from collections.abc import Iterable

from tasks.autointerp.lexicon.places import NEAR_TOKENS
from tasks.autointerp.lexicon.rule import (
    CONTEXT_START_TOKENS,
    Both,
    Constant,
    Either,
    Except,
    JoinedRule,
    LabelRule,
    PositionRule,
    Rule,
    TokenRule,
)
from tasks.autointerp.lexicon.vocabulary import TOKEN_CLASSES

MAX_LISTED = 4
_PLACES = {
    "here": "",
    "previous": "right after ",
    "next": "right before ",
    "before": f"within {NEAR_TOKENS} tokens after ",
    "line": "later in a line with ",
}
_FOLLOWERS = {
    "previous": "what follows ",
    "next": "what precedes ",
    "before": f"up to {NEAR_TOKENS} tokens after ",
    "line": "what follows in a line with ",
}
_POSITIONS = {
    "document_start": "at the start of a document",
    "line_start": "at the start of a line",
    "line_end": "at the end of a line",
    "sentence_start": "at the start of a sentence",
    "attribute": 'after "self."',
    "context_first": "at the very start of what the model reads",
    "context_start": f"among the first {CONTEXT_START_TOKENS} tokens that the model reads",
    "repeat": "that occurred before in the context",
    "near_repeat": f"that occurred within the last {NEAR_TOKENS} tokens",
}
_ADJECTIVES: dict[Rule, str] = {
    TokenRule("class", ("word_inside",)): "inside a word",
    TokenRule("class", ("word_start",)): "after a space",
    TokenRule("class", ("lowercase",)): "in lower case",
    TokenRule("class", ("non_ascii",)): "beyond ASCII",
}
_SUBJECTS = {
    "context_first": "the first token that the model reads (start of a chunk)",
    "context_start": f"the first {CONTEXT_START_TOKENS} tokens that the model reads (start of a chunk)",
    "document_start": "the first token of a document",
    "line_start": "the first token of a line",
    "line_end": "the last token of a line",
    "sentence_start": "the first word of a sentence",
    "attribute": 'names after "self."',
    "repeat": f"words {_POSITIONS['repeat']}",
    "near_repeat": f"words {_POSITIONS['near_repeat']}",
}


def in_words(rule: Rule, most: int = MAX_LISTED) -> str:
    """The rule as a phrase: what the feature fires on, each list with at most ``most`` entries."""
    if isinstance(rule, Both):
        return _conjunction(rule, most)
    if isinstance(rule, Either):
        return ", or ".join(in_words(part, most) for part in rule.parts)
    if isinstance(rule, TokenRule):
        return _tokens(rule, most) if rule.place == "here" else _FOLLOWERS[rule.place] + _tokens(rule, most)
    if isinstance(rule, JoinedRule):
        return listed(map(named, rule.values), most)
    if isinstance(rule, Constant):
        return "everything" if rule.value else "nothing"
    if isinstance(rule, Except):
        return f"{in_words(rule.rule, most)}, but not on {listed(map(named, rule.values), most)}"
    if isinstance(rule, PositionRule):
        return _SUBJECTS[rule.name]
    return f"tokens {circumstance(rule, most)}"


def named(text: str) -> str:
    """A token text in plain words: white space by its name, the rest in quotes without blanks at its ends."""
    core = text.strip(" \n\r\t")
    if not core:
        return _white_space(text)
    end = " at the end of a line" if "\n" in text[len(text.rstrip()) :] else ""
    start = " at the start of a line" if "\n" in text[: len(text) - len(text.lstrip())] else ""
    return quoted(core) + start + end


def _white_space(text: str) -> str:
    if not text:
        return "further bytes of one character"
    n_lines = text.count("\n")
    blanks = text.rpartition("\n")[2]
    lines = ("", "a line break", "an empty line")[min(2, n_lines)]
    if not blanks.strip(" "):
        after = {0: "", 1: "a blank"}.get(len(blanks), f"{len(blanks)} blanks")
    else:
        after = "a tab" if blanks == "\t" else "tabs"
    return " and ".join(part for part in (lines, after) if part)


def quoted(text: str) -> str:
    """A text in quotes, with control characters visible."""
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
    return f"'{shown}'" if '"' in shown and "'" not in shown else f'"{shown}"'


def listed(names: Iterable[str], most: int = MAX_LISTED) -> str:
    """Different names with commas and "or", those beyond ``most`` as a number."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) <= 1:
        return "".join(distinct)
    shown = distinct[:most]
    rest = len(distinct) - len(shown)
    if rest:
        return ", ".join(shown) + f" and {rest} more"
    return ", ".join(shown[:-1]) + " or " + shown[-1]


def _conjunction(rule: Both, most: int) -> str:
    """The tokens first, then the circumstances."""
    subjects = [part for part in rule.parts if _is_subject(part) and part not in _ADJECTIVES]
    subjects = subjects or [part for part in rule.parts if part in _ADJECTIVES][:1]
    others = [part for part in rule.parts if part not in subjects]
    head = " that are also ".join(in_words(part, most) for part in subjects) or "tokens"
    return " ".join([head, *(circumstance(part, most) for part in others)])


def _is_subject(rule: Rule) -> bool:
    return isinstance(rule, Both | Either | Except | JoinedRule) or (
        isinstance(rule, TokenRule) and rule.place == "here"
    )


def circumstance(rule: Rule, most: int = MAX_LISTED) -> str:
    """Where a rule about positions or surroundings holds, to stand after a subject."""
    if isinstance(rule, TokenRule):
        if rule in _ADJECTIVES:
            return _ADJECTIVES[rule]
        return f"{_PLACES[rule.place]}{_tokens(rule, most)}"
    if isinstance(rule, PositionRule):
        return _POSITIONS[rule.name]
    if isinstance(rule, LabelRule):
        return f"in documents whose {rule.name} is {quoted(rule.value)}"
    return f"where {in_words(rule, most)} stand"


def _tokens(rule: TokenRule, most: int) -> str:
    if rule.kind == "class":
        return listed((TOKEN_CLASSES[name][0] for name in rule.values), most)
    names = listed(map(named, rule.values), most)
    if rule.kind == "is":
        return names
    if rule.kind == "word":
        has_case = any(value.upper() != value.lower() for value in rule.values)
        return f"{names} in any case" if has_case else names
    verbs = {"starts": "that start with", "ends": "that end with", "contains": "that contain"}
    return f"tokens {verbs[rule.kind]} {names}"
