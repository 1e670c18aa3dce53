"""From a corpus to packed tokens on disk; refuses early what the model cannot run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from catalog.errors import UserError
from catalog.schemas import Split
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.models.language_model import LanguageModel, ModelSpec
from tasks.activations.text.chat import refuse_other_template
from tasks.activations.text.packing import PackedSequence, PackedTokens, PackingConfig, pack
from tasks.activations.text.token_files import TokenWriter, are_intact, open_tokens
from tasks.activations.text.tokenisation import sampled_order, tokenise
from tasks.common.progress import Progress, ProgressListener, silent

logger = logging.getLogger(__name__)


def check_request(spec: ModelSpec, config: ActivationsConfig) -> None:
    """Refuse before any work what the model cannot do; models with rotary positions would not fail.

    Raises:
        UserError: for no hookpoint, a context longer than the model's, a BOS that the tokenizer does not
            have.
    """
    if not config.hookpoints:
        raise UserError(f"no hookpoint is named for model {spec.model_id!r}: set activations.hookpoints")
    if spec.max_context is not None and config.context_length > spec.max_context:
        raise UserError(
            f"context_length {config.context_length} is longer than the context of model {spec.model_id!r} "
            f"({spec.max_context}): lower activations.context_length"
        )
    if config.bos != "none" and spec.bos_token_id is None:
        raise UserError(
            f"the tokenizer of model {spec.model_id!r} has no BOS token: set activations.bos: none"
        )
    if config.bos != "none" and not spec.is_causal and config.context_length < 3:
        raise UserError(
            "context_length must be at least 3: an encoder's chunk begins and ends with a special token"
        )


def packing_config(language_model: LanguageModel, config: ActivationsConfig) -> PackingConfig:
    """The packing of a request, with the special tokens of the model's tokenizer."""
    spec = language_model.spec
    return PackingConfig(
        context_length=config.context_length,
        packing=config.packing,
        bos=config.bos,
        drop_first_token=config.drop_first_token,
        bos_token_id=spec.bos_token_id,
        end_token_id=None if spec.is_causal else spec.eos_token_id,
        pad_token_id=language_model.pad_token_id,
        long_documents=config.long_documents,
    )


def pack_corpus(
    language_model: LanguageModel,
    documents: pa.Table,
    config: ActivationsConfig,
    folder: Path,
    listener: ProgressListener = silent,
    *,
    chat_template: str | None = None,
    may_lack_tokens: bool = False,
) -> PackedTokens:
    """Tokenise and pack documents into ``folder`` unless that is done; the train split comes first.

    Args:
        language_model: Its tokenizer is used; the model is not run.
        documents: Columns ``document_id``, ``split`` and ``text``.
        config: Budget, packing and token policy.
        folder: Working folder of the token files.
        listener: Gets the number of tokens packed.
        chat_template: Digest of the template that rendered the conversations; None for plain texts.
        may_lack_tokens: Whether the documents may all be of one split, or without a token.

    Raises:
        UserError: for a corpus without documents or tokens, ids outside the vocabulary, and conversations
            rendered with another model's template.
    """
    if are_intact(folder):
        return open_tokens(folder)
    _check_documents(language_model, documents, chat_template)
    vocab_size = int(language_model.model.get_input_embeddings().num_embeddings)
    writer = TokenWriter(folder, config.context_length, vocab_size)

    def write(split: Split, n_tokens: int) -> None:
        for sequence in _sequences(language_model, documents, config, split, n_tokens, bool(chat_template)):
            writer.extend([sequence])
            listener(Progress("tokens packed", writer.n_tokens, config.n_tokens))

    write("train", config.n_train_tokens)
    n_train = writer.n_sequences
    if n_train == 0 and not may_lack_tokens:
        raise UserError(
            "no document of the train split has a token: give the corpus more (or longer) documents, "
            "or lower activations.eval_share"
        )
    if config.n_eval_tokens:
        write("eval", config.n_eval_tokens)
        if writer.n_sequences == n_train and not may_lack_tokens:
            logger.warning("no document fell into the eval split: metrics on eval tokens will be missing")
    writer.finish(n_train, {"tokenizer_digest": language_model.spec.tokenizer_digest})
    return open_tokens(folder)


def _check_documents(language_model: LanguageModel, documents: pa.Table, chat_template: str | None) -> None:
    """Refuse a corpus without documents, and conversations rendered with another model's template."""
    if documents.num_rows == 0:
        raise UserError("the corpus is empty: it has no documents after cleaning; check the corpus section")
    if chat_template is not None:
        refuse_other_template(language_model.tokenizer, chat_template, language_model.spec.model_id)


def _sequences(
    language_model: LanguageModel,
    documents: pa.Table,
    config: ActivationsConfig,
    split: Split,
    n_tokens: int,
    is_chat: bool,
) -> Iterator[PackedSequence]:
    rows = sampled_order(documents, split, config.seed)
    tokenised = tokenise(
        language_model.tokenizer, documents["text"], rows, n_tokens, has_special_tokens=is_chat
    )
    return pack(tokenised, packing_config(language_model, config), n_tokens)
