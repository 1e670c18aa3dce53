"""Puts rules into words: the text of a lexical explanation."""

from tasks.autointerp.lexicon.rule import (
    CONTEXT_START_TOKENS,
    NEAR_TOKENS,
    Both,
    Constant,
    Either,
    Except,
    LabelRule,
    PositionRule,
    Rule,
    TokenRule,
)
from tasks.autointerp.lexicon.vocabulary import TOKEN_CLASSES

MAX_LISTED = 8
_PLACES = {
    "here": "",
    "previous": "right after ",
    "next": "right before ",
    "before": f"within {NEAR_TOKENS} tokens after ",
    "line": "in a line that so far has ",
}
_POSITIONS = {
    "document_start": "at the start of a document",
    "line_start": "at the start of a line",
    "line_end": "at the end of a line",
    "context_first": "at the very beginning of a context",
    "context_start": f"among the first {CONTEXT_START_TOKENS} tokens of a context",
    "repeat": "that occurred before in the context",
    "near_repeat": f"that occurred within the last {NEAR_TOKENS} tokens",
}
_FIRST = {
    "context_first": "the first token of a context",
    "context_start": f"the first {CONTEXT_START_TOKENS} tokens of a context",
}


def in_words(rule: Rule, most: int = MAX_LISTED) -> str:
    """The rule as a phrase: what the feature fires on, each list with at most ``most`` entries."""
    if isinstance(rule, Both):
        return _conjunction(rule, most)
    if isinstance(rule, Either):
        return ", or ".join(in_words(part, most) for part in rule.parts)
    if isinstance(rule, TokenRule) and rule.place == "here":
        return _tokens(rule, most)
    if isinstance(rule, Constant):
        return "everything" if rule.value else "nothing"
    if isinstance(rule, Except):
        excepted = _listed([quoted(value) for value in rule.values], most)
        return f"{in_words(rule.rule, most)}, but not on {excepted}"
    if isinstance(rule, PositionRule) and rule.name in ("repeat", "near_repeat"):
        return f"words {_POSITIONS[rule.name]}"
    if isinstance(rule, PositionRule) and rule.name in _FIRST:
        return _FIRST[rule.name]
    return f"tokens {_circumstance(rule, most)}"


def quoted(text: str) -> str:
    """A token text in quotes, with blanks at its ends and control characters visible."""
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
    return f'"{shown}"'


def _conjunction(rule: Both, most: int) -> str:
    """The tokens first, then the circumstances."""
    subjects = [p for p in rule.parts if _is_subject(p)]
    others = [p for p in rule.parts if not _is_subject(p)]
    head = " that are also ".join(in_words(part, most) for part in subjects) or "tokens"
    return " ".join([head, *(_circumstance(part, most) for part in others)])


def _is_subject(rule: Rule) -> bool:
    return isinstance(rule, (Both, Either, Except)) or (isinstance(rule, TokenRule) and rule.place == "here")


def _circumstance(rule: Rule, most: int) -> str:
    if isinstance(rule, TokenRule):
        return f"{_PLACES[rule.place]}{_tokens(rule, most)}"
    if isinstance(rule, PositionRule):
        return _POSITIONS[rule.name]
    if isinstance(rule, LabelRule):
        return f"in documents whose {rule.name} is {quoted(rule.value)}"
    return f"where {in_words(rule, most)} stand"


def _tokens(rule: TokenRule, most: int) -> str:
    if rule.kind == "class":
        return _listed([TOKEN_CLASSES[name][0] for name in rule.values], most)
    names = _listed([quoted(value) for value in rule.values], most)
    if rule.kind == "is":
        return names
    if rule.kind == "word":
        has_case = any(value.upper() != value.lower() for value in rule.values)
        return f"{names} in any case" if has_case else names
    verbs = {"starts": "that start with", "ends": "that end with", "contains": "that contain"}
    return f"tokens {verbs[rule.kind]} {names}"


def _listed(names: list[str], most: int) -> str:
    if len(names) == 1:
        return names[0]
    shown = names[:most]
    rest = len(names) - len(shown)
    if rest:
        return ", ".join(shown) + f" and {rest} more"
    return ", ".join(shown[:-1]) + " or " + shown[-1]
