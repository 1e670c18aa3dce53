"""The description of a language model from its files, and the settings of its files that are refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.errors import UserError
from tasks.activations.models.hookpoints import Layout
from tasks.activations.models.source import ModelOrigin


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is known of a language model without running it."""

    model_id: str
    source: ModelOrigin
    revision: str | None
    architecture: str
    """Model type as Transformers calls it, for example llama."""
    n_layers: int
    d_model: int
    vocab_size: int
    max_context: int | None
    """Longest context in tokens; None where the model states none."""
    n_parameters: int
    tokenizer_digest: str
    weights_digest: str
    is_causal: bool
    bos_token_id: int | None
    """Begins a text: BOS, or the encoder's CLS."""
    eos_token_id: int | None
    """Ends a text; for an encoder its SEP."""
    mask_token_id: int | None


def stated_size(folder: Path, model_config: Any, name: str) -> int:
    """A size that the configuration has to state.

    Raises:
        UserError: when it does not.
    """
    value = getattr(model_config, name, None)
    if type(value) is not int or value < 1:
        raise UserError(
            f"{folder / 'config.json'}: a model of type {model_config.model_type!r} does not say its {name}: "
            "featlas cannot read models of this type"
        )
    return value


def refuse_other_vocabulary(
    folder: Path, tokenizer: Any, vocab_size: int, begin: int | None, end: int | None
) -> None:
    """Refuse a tokenizer that gives ids for which the model has no embedding.

    Tokens that were added to the tokenizer alone, to pad with for example, never come out of a text.

    Raises:
        UserError: naming both sizes.
    """
    added = set(tokenizer.get_added_vocab().values()) - {begin, end}
    largest = max(
        (token_id for token_id in tokenizer.get_vocab().values() if token_id not in added), default=0
    )
    if largest >= vocab_size:
        raise UserError(
            f"the tokenizer in {folder} has {largest + 1} tokens, its model {vocab_size}: the files belong "
            "to different models; fetch the model again"
        )


def max_context(model_config: Any, layout: Layout | None) -> int | None:
    """Longest context in tokens; None where the configuration states none."""
    longest = getattr(model_config, "max_position_embeddings", None)
    if longest is None:
        return None
    if layout is not None and layout.positions_after_padding:
        return int(longest) - int(model_config.pad_token_id) - 1
    return int(longest)
