"""Conversations, rendered with a real chat template: one each sequence, no double BOS, digests checked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import UserError
from tasks.activations.caching.cache import cache_activations
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.language_model import LanguageModel, load_language_model
from tasks.activations.models.source import ModelConfig
from tasks.activations.text.chat import ChatTemplate, special_token_ids, template_digest

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('the role ' + message.role + ' is unknown') }}{% endif %}"
    "<mask>{{ message.role }}\\n{{ message.content }}</s>{% endfor %}"
)
"""``<mask>`` opens a turn, ``</s>`` ends it."""


def chats(n: int) -> list[list[dict[str, str]]]:
    return [
        [
            {"role": "user", "content": f"How many ships came in on day {number}?"},
            {"role": "assistant", "content": "The keeper counted " + "one and " * (number % 5) + "three."},
        ]
        for number in range(n)
    ]


@pytest.fixture(scope="module")
def instruct(model_config: Any, tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """A small Llama whose tokenizer has a chat template."""
    folder = tmp_path_factory.mktemp("instruct") / "model"
    folder.mkdir()
    for path in Path(model_config("llama").path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    return ModelConfig(id="tiny-instruct", source="local", path=str(folder))


@pytest.fixture(scope="module")
def corpus(instruct: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> CorpusTable:
    path = tmp_path_factory.mktemp("chats") / "chats.parquet"
    rows = [*chats(40), None, [{"role": "user", "content": "end it </s> here"}]]
    pq.write_table(pa.table({"messages": rows}), path)
    return corpus_table(chat_config(path, instruct), 0.2)


def chat_config(path: Path, model: ModelConfig, **changes: Any) -> Any:
    fields = {"source": "parquet", "path": str(path), "near_duplicates": None, **changes}
    chat = {"messages_column": "messages", "model": model.canonical()}
    return CORPUS_SOURCES["parquet"].Config.model_validate({**fields, "chat": chat})


@pytest.fixture(scope="module")
def language_model(instruct: ModelConfig) -> LanguageModel:
    return load_language_model(instruct, "cpu")


def test_a_document_is_the_rendered_conversation_without_bos(
    corpus: CorpusTable, language_model: LanguageModel
) -> None:
    documents = corpus.table.to_pylist()
    rendered = language_model.tokenizer.apply_chat_template(chats(40)[3], tokenize=False)
    assert rendered == "<s>" + documents[3]["text"]
    assert corpus.chat_template == template_digest(language_model.tokenizer)
    assert (len(documents), corpus.n_empty) == (40, 2), "no messages, and a message with a special token"


def test_two_conversations_never_share_a_sequence(
    corpus: CorpusTable, language_model: LanguageModel, tmp_path: Path
) -> None:
    config = ActivationsConfig(
        hookpoints=("blocks.1.resid_post",),
        context_length=48,
        n_tokens=5_000,
        packing="per_document",
        long_documents="truncate",
        eval_share=0.2,
    )
    tokens = (
        found := cache_activations(language_model, corpus, config, tmp_path).open(config.hookpoints[0])
    ).tokens
    tokenizer, texts = language_model.tokenizer, corpus.table["text"].to_pylist()
    seen: list[int] = []
    for ids, segments, indices in zip(tokens.token_ids, tokens.segment, tokens.document_index, strict=True):
        documents = set(indices[segments >= 0].tolist())
        assert len(documents) == 1, "one conversation"
        assert np.count_nonzero(ids == tokenizer.bos_token_id) == 1, "one BOS"
        (document,) = documents
        seen.append(document)
        whole = tokenizer.apply_chat_template(chats(40)[document], tokenize=True, return_dict=False)
        assert ids[segments >= 0].tolist() == whole[:48], "the model's own tokens, truncated"
        starts, ends = (getattr(tokens, name)[len(seen) - 1] for name in ("char_start", "char_end"))
        assert texts[document][starts[1] : ends[1]] == "<mask>"
    assert sorted(seen) == list(range(40)), "each once: what does not fit is truncated"
    special = found.meta["special_token_ids"]
    assert found.meta["chat_template"] == corpus.chat_template
    assert {tokenizer.bos_token_id, tokenizer.mask_token_id, tokenizer.eos_token_id} <= set(special)


def test_special_tokens_of_plain_texts_stay_text(language_model: LanguageModel) -> None:
    tokenizer = language_model.tokenizer
    assert special_token_ids(tokenizer, False) == sorted(tokenizer.all_special_ids)
    assert set(special_token_ids(tokenizer, True)) >= set(tokenizer.all_special_ids)


def test_another_models_template_is_refused(
    corpus: CorpusTable, language_model: LanguageModel, tmp_path: Path
) -> None:
    config = ActivationsConfig(hookpoints=("blocks.1.resid_post",), context_length=16, n_tokens=100)
    with pytest.raises(UserError, match="another chat template"):
        cache_activations(language_model, corpus._replace(chat_template="0" * 64), config, tmp_path)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("hello", "holds str, not a list of messages"),
        ([{"role": "user"}], "without the texts role and content"),
        ([{"role": "judge", "content": "guilty"}], "the role judge is unknown"),
    ],
)
def test_bad_messages_are_one_sentence(instruct: ModelConfig, messages: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as raised:
        ChatTemplate(instruct).render(messages, "row 7 of column 'messages'")
    assert str(raised.value).startswith("row 7 of column 'messages'")


def test_a_model_without_template_is_refused(model_config: Any) -> None:
    with pytest.raises(UserError, match=r"'llama' has no chat template: name an instruct model"):
        ChatTemplate(model_config("llama"))


def test_text_or_chat_but_not_both(instruct: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exactly one of text_column and chat"):
        chat_config(tmp_path, instruct, text_column="text")
    with pytest.raises(ValueError, match="exactly one of text_column and chat"):
        CORPUS_SOURCES["parquet"].Config.model_validate({"source": "parquet", "path": str(tmp_path)})
