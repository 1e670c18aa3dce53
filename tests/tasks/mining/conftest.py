"""Small activation sets whose latent activations are known exactly, written with the real writers.

The dictionary is the identity: what is stored is what each feature does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from catalog.durable import replace_file, to_json
from tasks.activations.reading.shard_files import ShardWriter, write_index
from tasks.activations.reading.shards import META, TOKENS, ActivationSet
from tasks.activations.text.packing import PackingConfig, pack
from tasks.activations.text.token_files import TokenWriter, open_tokens
from tasks.activations.text.tokenisation import TokenisedDocument
from tasks.dictionaries.base import Dictionary, build_dictionary, dictionary_config

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "Émile's", "naïve", "猫", "🙂", "run\nfast"]


def train_tokenizer(texts: Sequence[str], vocab_size: int = 300) -> Tokenizer:
    """A byte-level BPE of the kind that language models use, leading blanks outside the offsets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenised(tokenizer: Tokenizer, texts: Sequence[str]) -> list[TokenisedDocument]:
    """Documents as the packing takes them."""
    documents = []
    for index, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
        ids = np.array(encoding.ids, dtype=np.int32)
        documents.append(TokenisedDocument(index, ids, offsets[:, 0].copy(), offsets[:, 1].copy()))
    return documents


def write_set(
    folder: Path,
    documents: Sequence[TokenisedDocument],
    activations: Callable[[np.ndarray], np.ndarray],
    *,
    context_length: int,
    bos_token_id: int | None = None,
    sequences_per_shard: int = 8,
    dtype: str = "float32",
) -> ActivationSet:
    """Pack documents and store ``activations(segment (S, T)) -> (S, T, D)``."""
    config = PackingConfig(context_length, "block", "drop", False, bos_token_id, None, 0)
    writer = TokenWriter(folder / TOKENS, context_length, 1_000)
    writer.extend(pack(documents, config, 10**9))
    writer.finish(writer.n_sequences, {})
    tokens = open_tokens(folder / TOKENS)
    values = activations(np.asarray(tokens.segment))
    records = {}
    for number, first in enumerate(range(0, tokens.n_sequences, sequences_per_shard)):
        part = values[first : first + sequences_per_shard].astype(dtype)
        shard = ShardWriter(folder, number, part.shape, dtype)  # type: ignore[arg-type]
        shard.append(part)
        records[number] = shard.finish(first_sequence=first, nonfinite=(), norm_sum=0.0, n_normed=0)
    write_index(folder, records)
    meta = {
        "hookpoint": "blocks.0.resid_post",
        "d_in": values.shape[2],
        "dtype": dtype,
        "context_length": context_length,
        "sequences_per_shard": sequences_per_shard,
        "n_shards": len(records),
        "n_sequences": tokens.n_sequences,
        **dict.fromkeys(("model_id", "tokenizer_digest", "weights_digest"), "planted"),
    }
    replace_file(folder / META, to_json(meta))
    return ActivationSet.open(folder)


def identity_dictionary(n_features: int) -> Dictionary:
    """``encode(x) = relu(x)``, directions are the axes."""
    fields = {"architecture": "relu_l1", "expansion_factor": 1, "l1_coefficient": 1.0, "seed": 0}
    config = dictionary_config({**fields, "lr": 1e-3, "n_tokens": 1_000, "batch_tokens": 100})
    dictionary = build_dictionary(config, n_features)
    with torch.no_grad():
        dictionary.W_enc.copy_(torch.eye(n_features))
        dictionary.W_dec.copy_(torch.eye(n_features))
    return dictionary


def planted_codes(segment_BT: np.ndarray, n_features: int, seed: int = 0) -> np.ndarray:
    """Sparse codes of every kind: rare, common, dense, twins, constant, few; the last is never active."""
    rng = np.random.default_rng(seed)
    shape = segment_BT.shape
    codes = rng.exponential(1.0, (*shape, n_features)) * (rng.random((*shape, n_features)) < 0.03)
    codes[..., 1] = rng.exponential(2.0, shape) * (rng.random(shape) < 0.4)
    codes[..., 2] = codes[..., 3] * (rng.random(shape) < 0.7)
    codes[..., 4] = (rng.random(shape) < 0.02) * 1.5
    codes[..., 5] = 0.0
    codes[0, 3, 5] = 2.0
    codes[..., -1] = 0.0
    return np.round(codes, 3) - 0.25 * (codes == 0)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Sixty documents of uneven length."""
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(WORDS, size=5 + 11 * (i % 9))) for i in range(60)]


@pytest.fixture(scope="session")
def documents(texts: list[str]) -> pa.Table:
    """The corpus table that belongs to the sets of these tests."""
    return pa.table({"document_id": [f"doc/{i}" for i in range(len(texts))], "text": texts})


@pytest.fixture(scope="session")
def planted_set(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> ActivationSet:
    """Twelve planted features on the sixty documents, with a BOS before every chunk."""
    folder = tmp_path_factory.mktemp("planted")
    documents = tokenised(train_tokenizer(texts), texts)
    return write_set(folder, documents, lambda s: planted_codes(s, 12), context_length=48, bos_token_id=0)


@pytest.fixture
def write_planted_set() -> Callable[..., ActivationSet]:
    """``write_set`` for tests that need a set of their own."""
    return write_set


@pytest.fixture(scope="session")
def identity() -> Callable[[int], Dictionary]:
    """Builds identity dictionaries."""
    return identity_dictionary


@pytest.fixture(scope="session")
def tokenise_texts() -> Callable[[Sequence[str]], list[TokenisedDocument]]:
    """Tokenises texts with a byte-level BPE trained on the stock words."""
    tokenizer = train_tokenizer([" ".join(WORDS)] * 8)
    return lambda texts: tokenised(tokenizer, texts)
