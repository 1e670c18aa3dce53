"""The language model within a checkpoint of several kinds of input, such as text and images.

Only text is read, so the towers for other inputs do no work: what is left is a language model of a type of
its own (``text_config``), with the same logits. Nothing is retrained or converted.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from catalog.errors import UserError

T = TypeVar("T")
NESTED = "text_config"
"""Key of ``config.json`` that describes the language model within; Transformers knows no other."""
_PART = re.compile(r"^(?:.+\.)?language_model\.(?=.)")
_HEAD = "lm_head."


def language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``config.json`` says of the language model: all of it, or the part that describes one."""
    nested = config.get(NESTED)
    if not isinstance(nested, Mapping):
        return config
    outer = {name: config[name] for name in ("architectures", "tie_word_embeddings") if name in config}
    return {**outer, **{name: value for name, value in nested.items() if value is not None}}


def language_tensors(tensors: Mapping[str, T]) -> dict[str, T]:
    """The tensors of the language model within, named as in a model of its own; without those of towers."""
    return {
        _PART.sub("", name): tensor
        for name, tensor in tensors.items()
        if _PART.match(name) or name.startswith(_HEAD)
    }


def language_part(whole: Any, empty: Any) -> Any:
    """The language model within a loaded model, in the form of one of its own.

    Args:
        whole: The loaded model.
        empty: A model of the inner type without weights, which is filled and returned.

    Raises:
        UserError: when the parts of the one do not fit the other.
    """
    decoder, head = whole.get_decoder(), whole.get_output_embeddings()
    if type(decoder) is not type(empty.base_model) or head is None:
        raise UserError(
            f"a model of type {whole.config.model_type!r} does not hold a language model that stands alone "
            f"({type(empty.base_model).__name__}): save its language model in a folder of its own"
        )
    empty.config = decoder.config
    setattr(empty, empty.base_model_prefix, decoder)
    empty.set_output_embeddings(head)
    return empty
