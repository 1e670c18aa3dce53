"""Keeps control tokens that a text spells out as text, whatever the tokenizer's model would produce.

Transformers splits what looks like a special token before the tokenizer's model sees it. If the model's own
vocabulary contains the same word (Unigram, and word-level vocabularies), the model still produces the control
token. A copy of the tokenizer, in whose vocabulary these words have a spelling that no text contains,
tokenises such documents.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from catalog.errors import UserError

_UNSPELLABLE = "\x00featlas control token {}\x00"


class Encoded(NamedTuple):
    """Tokens of one text."""

    token_ids: list[int]
    offsets: list[tuple[int, int]]


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens that steer the model and that no text may produce; not the one for unknown words."""
    special = {int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {int(i) for i in tokenizer.all_special_ids}
    steering = {
        getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "sep", "cls", "mask")
    }
    unknown = tokenizer.unk_token_id
    return frozenset(special - ({unknown} - steering))


def is_misread(tokenizer: Any, text: str, token_ids: Sequence[int], control: frozenset[int]) -> bool:
    """Whether a tokenizer turned words of the text into control tokens, or into the unknown token."""
    if not control.isdisjoint(token_ids):
        return True
    unknown = tokenizer.unk_token
    return unknown is not None and unknown in text and tokenizer.unk_token_id in token_ids


class PlainTextTokenizer:
    """A copy of a tokenizer that cannot produce control tokens.

    Args:
        tokenizer: A fast Transformers tokenizer.
        control: Ids that must not come out.

    Raises:
        UserError: when the tokenizer is of a kind that cannot be copied this way.
    """

    def __init__(self, tokenizer: Any, control: frozenset[int]) -> None:
        backend = tokenizer.backend_tokenizer
        self._control = control
        words = control | ({tokenizer.unk_token_id} - {None})
        try:
            renamed = _without_control_words(json.loads(backend.to_str()), words)
            self._backend = type(backend).from_str(json.dumps(renamed))
        except Exception as error:  # the tokenizers library raises bare Exception
            raise UserError(
                "texts of the corpus spell out control tokens, and this tokenizer cannot be kept from taking "
                f"them for such ({error}): leave these documents out"
            ) from error
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True

    def encode(self, text: str) -> Encoded:
        """The tokens of a text; a control token that is produced nevertheless is left out."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        kept = [i for i, token_id in enumerate(encoding.ids) if token_id not in self._control]
        return Encoded([encoding.ids[i] for i in kept], [tuple(encoding.offsets[i]) for i in kept])


def _without_control_words(described: dict[str, Any], control: frozenset[int]) -> dict[str, Any]:
    """The tokenizer's JSON with the control words renamed everywhere."""
    names: dict[str, str] = {}
    model = described["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        names |= {word: _UNSPELLABLE.format(i) for word, i in vocabulary.items() if i in control}
        model["vocab"] = {names.get(word, word): i for word, i in vocabulary.items()}
    else:
        names |= {entry[0]: _UNSPELLABLE.format(i) for i, entry in enumerate(vocabulary) if i in control}
        model["vocab"] = [[names.get(word, word), score] for word, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    for token in described.get("added_tokens") or ():
        token["content"] = names.get(token["content"], token["content"])
    return described


def holds_control_words(folder: Path) -> bool:
    """Whether a tokenizer's file is of a kind whose model may produce control tokens from a text."""
    try:
        described = json.loads((folder / "tokenizer.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    model = described.get("model") if isinstance(described, dict) else None
    return isinstance(model, dict) and model.get("type") in ("Unigram", "WordLevel")
