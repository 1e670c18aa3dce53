"""Closed lists of words and signs: families of tokens that have a name of their own."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CODE_ONLY = _words(
    "async await const def del elif enum fn func implements instanceof lambda nonlocal struct typedef typeof "
    "var void"
)
"""Keywords that hardly occur in prose; the others prove nothing about code."""
KEYWORDS = CODE_ONLY | _words(
    "and as assert break case class continue default do else except export extends final finally for from "
    "function global if import in include interface is let new not or package pass private protected public "
    "raise return static super switch throw throws try using while with yield"
)
PREPOSITIONS = _words(
    "of in on at by for with from to into onto over under about after before between through during against "
    "among across behind beyond within without toward towards upon"
)
AUXILIARIES = _words(
    "be is are was were been being am have has had having do does did will would can could should may "
    "might must"
)
NUMBERS = _words(
    "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
    "thousand million billion"
)
MONTHS = _words("january february march april may june july august september october november december")
CONJUNCTIONS = _words("and or but nor so because although though while if unless whereas")
WEEKDAYS = _words("monday tuesday wednesday thursday friday saturday sunday")

WORD_LISTS: dict[str, tuple[str, frozenset[str]]] = {
    "keyword": ("keywords of code", KEYWORDS),
    "pronoun": ("pronouns", _words("i you he she it we they me him her us them myself himself")),
    "possessive": ("possessives", _words("my your his her its our their mine yours ours theirs")),
    "article": ("articles", _words("a an the")),
    "preposition": ("prepositions", PREPOSITIONS),
    "conjunction": ("conjunctions", CONJUNCTIONS),
    "auxiliary": ("auxiliary verbs", AUXILIARIES),
    "question": ("question words", _words("who what when where why how which whose whom")),
    "negation": ("negations", _words("not no never none nothing nobody neither nor cannot")),
    "number_word": ("number words", NUMBERS),
    "month": ("names of months", MONTHS),
    "weekday": ("names of weekdays", WEEKDAYS),
    "comparison": ("comparison operators", _words("== != < > <= >= === !==")),
    "assignment": ("assignment signs", _words("= += -= *= /= |= &= := %=")),
    "arithmetic": ("arithmetic signs", _words("+ - * / % ** //")),
    "sentence_end": ("marks that end a sentence", _words(". ! ? ...")),
}
"""Name of a class: what its members are called, and the members without blanks, in lower case."""
LISTED_WORDS = frozenset(name for name, (_, members) in WORD_LISTS.items() if next(iter(members)).isalpha())
"""The lists of words; the others are of signs."""
