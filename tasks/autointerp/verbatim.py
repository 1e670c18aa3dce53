"""Labels that only repeat a context: a stretch of text is an example, not what a feature responds to."""

import re
from collections.abc import Iterable

MIN_WORDS = 4
"""A label may quote a phrase of up to three words, as in ``"as well as"``."""
MIN_CHARACTERS = 16
"""A label may quote four short words."""
MIN_SHARE = 0.8
"""A label of which this share is one stretch of a context says nothing of its own."""
_WORD = re.compile(r"\w+")
_WORD_OR_END = re.compile(r"\w+|\x00")
_BETWEEN_CONTEXTS = " \x00 "


def repeated(label: str, contexts: Iterable[str]) -> str | None:
    """The longest stretch of a context that makes up most of the label, or None.

    Only words are compared, in any case, whatever marks or white space are between them: at least
    `MIN_WORDS` words in a row with at least `MIN_CHARACTERS` characters.
    """
    spans = [match.span() for match in _WORD.finditer(label)]
    needed = max(MIN_WORDS, round(MIN_SHARE * len(spans)))
    if len(spans) < needed:
        return None
    words = [label[start:stop].casefold() for start, stop in spans]
    text = _BETWEEN_CONTEXTS.join(contexts).casefold()
    if sum(word in text for word in words) < needed:
        return None
    text = f" {' '.join(re.findall(_WORD_OR_END, text))} "
    for length in range(len(spans), needed - 1, -1):
        for first in range(len(spans) - length + 1):
            stretch = label[spans[first][0] : spans[first + length - 1][1]]
            if len(stretch) >= MIN_CHARACTERS and f" {' '.join(words[first : first + length])} " in text:
                return stretch
    return None
