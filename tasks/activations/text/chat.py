"""Conversations as documents: a conversation rendered with a model's own template is one text.

The catalogue stores the rendered text, so character offsets, examples and pages need no knowledge of chats. A
beginning-of-sequence token that the template writes is removed, because packing adds it by the pipeline's
policy; otherwise it would occur twice. FAST (arXiv 2506.07691) trains on such documents with ``packing:
per_document``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from catalog.errors import UserError, first_line
from tasks.activations.models.language_model import read_tokenizer
from tasks.activations.models.source import ModelConfig

ROLES = ("system", "user", "assistant", "tool")


class ChatTemplate:
    """Renders conversations with the chat template of a model's tokenizer.

    Raises:
        UserError: when the tokenizer cannot be read or has no chat template.
    """

    def __init__(self, model: ModelConfig) -> None:
        self.model_id = model.id
        self.tokenizer = read_tokenizer(model)
        self.digest = _required_digest(self.tokenizer, model.id)
        self._special = [str(token) for token in self.tokenizer.all_special_tokens]

    def render(self, messages: Any, where: str) -> str | None:
        """The conversation as the model reads it, without a leading BOS.

        None if a message of it contains a special token, which would end a turn where none ends.

        Args:
            messages: Mappings with ``role`` and ``content``.
            where: The name of the conversation in an error.

        Raises:
            UserError: when the messages have another form, or the template refuses them.
        """
        turns = _turns(messages, where)
        if any(token in turn["content"] for turn in turns for token in self._special):
            return None
        try:
            text = str(self.tokenizer.apply_chat_template(turns, tokenize=False))
        except Exception as error:  # a template is a program and can raise anything
            reason = first_line(error)
            raise UserError(
                f"{where}: the chat template of {self.model_id!r} refuses it: {reason}"
            ) from error
        return text.removeprefix(self.tokenizer.bos_token or "")


def template_digest(tokenizer: Any) -> str | None:
    """SHA-256 of a tokenizer's chat template; None without one."""
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(template.encode()).hexdigest() if isinstance(template, str) else None


def refuse_other_template(tokenizer: Any, digest: str, model_id: str) -> None:
    """Raise ``UserError`` unless the tokenizer has the template that rendered the corpus."""
    if template_digest(tokenizer) != digest:
        raise UserError(
            f"the corpus was rendered with another chat template than that of model {model_id!r}: name this "
            "model in corpus.chat.model"
        )


def special_token_ids(tokenizer: Any, is_chat: bool) -> list[int]:
    """Ids of special tokens, ascending; of a chat corpus also roles that are a single token."""
    ids = {int(token_id) for token_id in tokenizer.all_special_ids}
    for role in ROLES if is_chat else ():
        encoded = tokenizer(role, add_special_tokens=False)["input_ids"]
        if len(encoded) == 1:
            ids.add(int(encoded[0]))
    return sorted(ids)


def _required_digest(tokenizer: Any, model_id: str) -> str:
    digest = template_digest(tokenizer)
    if digest is None:
        raise UserError(
            f"the tokenizer of model {model_id!r} has no chat template: name an instruct model in "
            "corpus.chat.model, or a text_column instead of chat"
        )
    return digest


def _turns(messages: Any, where: str) -> Sequence[dict[str, str]]:
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise UserError(
            f"{where} holds {type(messages).__name__}, not a list of messages with role and content"
        )
    turns = []
    for message in messages:
        role, content = _field(message, "role"), _field(message, "content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise UserError(f"{where} has a message without the texts role and content")
        turns.append({"role": role, "content": content})
    return turns


def _field(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, Mapping) else None
