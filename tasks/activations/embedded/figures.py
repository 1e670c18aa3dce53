"""The figures of ``model_card.json``: what a model was made from, and how well it compresses text."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from tokenizers import Tokenizer
from torch import nn

from tasks.activations.corpora.source import CORPUS_SOURCES, Document
from tasks.activations.corpora.stdlib import HELD_OUT_MODULES, HELD_OUT_TOPICS
from tasks.activations.corpora.stdlib_planted import PLANTED
from tasks.activations.corpora.table import corpus_digest
from tasks.activations.embedded.baselines import n_gram_bits_per_byte
from tasks.activations.embedded.evaluate import bits_per_byte
from tasks.activations.embedded.export import WEIGHTS_FILE, read_weights
from tasks.activations.embedded.network import Network
from tasks.activations.embedded.recipes import Recipe, TunedRecipe
from tasks.activations.embedded.run import TrainingRun, has_bfloat16, sha256
from tasks.activations.models.embedded import embedded_model_path

ORDINARY = "stdlib"
PROTOCOL = (
    "all held-out documents, weights as stored (float16), windows of context_length tokens that begin with "
    "BOS and overlap by half, each token scored once, over UTF-8 bytes"
)


N_SAMPLE = 10
"""Held-out documents on which a checkpoint is measured; every prefix of the corpus is a fair sample."""


class Texts(NamedTuple):
    """The documents of a corpus source, and its split."""

    documents: list[Document]
    train: list[Document]
    held_out: list[Document]

    @classmethod
    def read(cls, source_name: str) -> Self:
        """Read a source that holds documents out by name."""
        kind = CORPUS_SOURCES[source_name]
        source = kind(kind.Config())
        documents = list(source.documents())
        parts: dict[str, list[Document]] = {"train": [], "eval": []}
        for document in documents:
            parts[source.split_of(document.document_id, eval_share=0.0)].append(document)
        return cls(documents, parts["train"], parts["eval"])

    @property
    def held_out_bytes(self) -> int:
        """UTF-8 bytes of the held-out documents."""
        return sum(len(document.text.encode()) for document in self.held_out)


def corpus_of(recipe: Recipe) -> str:
    """The corpus source on which a recipe trains."""
    return recipe.corpus if isinstance(recipe, TunedRecipe) else ORDINARY


def training_facts(run: TrainingRun) -> dict[str, Any]:
    """The inputs of the weights and the cost of the training."""
    recipe, position = run.recipe, run.position
    return {
        "recipe": recipe.canonical(),
        "n_parameters": sum(parameter.numel() for parameter in run.network.parameters()),
        **progress_facts(recipe, position.step),
        "tokens_of_corpus": len(run.stream_N),
        "train_seconds": round(position.seconds, 1),
        "train_cpu_seconds": round(position.cpu_seconds, 1),
        "threads": torch.get_num_threads(),
        **machine_facts(),
    }


def progress_facts(recipe: Recipe, step: int) -> dict[str, int]:
    """Steps done, and tokens seen in them."""
    return {"steps": step, "tokens_seen": step * recipe.batch_windows * recipe.context_length}


def machine_facts() -> dict[str, str]:
    """What besides recipe and corpus the weights depend on."""
    return {
        "matrix_products": "bfloat16" if has_bfloat16() else "float32",
        "torch_version": torch.__version__,
    }


def text_facts(texts: Texts, folder: Path) -> dict[str, Any]:
    """The corpus, its held-out names and the size of the weights."""
    return {
        "python_version": platform.python_version(),
        "corpus_digest": corpus_digest(texts.documents),
        "held_out": sorted(HELD_OUT_MODULES | HELD_OUT_TOPICS),
        "weights_bytes": (folder / WEIGHTS_FILE).stat().st_size,
    }


def first_figures(run: TrainingRun, texts: Texts) -> dict[str, Any]:
    """Bits per byte of the rounded weights on every byte of the held-out documents, and n-grams'."""
    train_ids, held_out_ids = (token_ids(run.tokenizer, part) for part in (texts.train, texts.held_out))
    figure = held_out_bits(rounded(run.network), run.tokenizer, texts, run.recipe)
    return {
        "bits_per_byte": figure,
        "bits_per_byte_protocol": PROTOCOL,
        "bits_per_byte_by_n_gram_order": n_gram_bits_per_byte(
            train_ids, held_out_ids, texts.held_out_bytes, run.recipe.vocab_size
        ),
        "held_out_bytes": texts.held_out_bytes,
        "held_out_documents": len(texts.held_out),
    }


def tuned_figures(run: TrainingRun, recipe: TunedRecipe, planted: Texts) -> dict[str, Any]:
    """Bits per byte of the tuned model and of its parent, on held-out text with and without the habit."""
    ordinary, folder = Texts.read(ORDINARY), embedded_model_path(recipe.parent)
    parent = Network(recipe)
    read_weights(parent, recipe, folder)
    figures = {
        text: {
            model: held_out_bits(network, run.tokenizer, part, recipe)
            for model, network in ((recipe.parent, parent), (recipe.name, rounded(run.network)))
        }
        for text, part in (("ordinary", ordinary), ("planted", planted))
    }
    return {
        "parent": recipe.parent,
        "parent_weights_sha256": sha256((folder / WEIGHTS_FILE).read_bytes()),
        "planted_lines": "every line of source code that begins with return, without a comment or backslash",
        "n_planted_lines": planted_lines(planted.train),
        "n_planted_lines_held_out": planted_lines(planted.held_out),
        "bits_per_byte": figures["ordinary"][recipe.name],
        "bits_per_byte_by_text": figures,
        "bits_per_byte_protocol": PROTOCOL,
        "held_out_bytes": {"ordinary": ordinary.held_out_bytes, "planted": planted.held_out_bytes},
        "held_out_documents": len(planted.held_out),
    }


def checkpoint_card(run: TrainingRun, step: int, texts: Texts, folder: Path) -> dict[str, Any]:
    """The card of a checkpoint whose weights are in ``folder``, measured on a sample of the documents."""
    recipe, sample = run.recipe, texts._replace(held_out=texts.held_out[:N_SAMPLE])
    network = Network(recipe)
    read_weights(network, recipe, folder)
    return {
        "recipe": recipe.canonical(),
        "series": {"id": recipe.name, "step": step},
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
        **progress_facts(recipe, step),
        **machine_facts(),
        "bits_per_byte": held_out_bits(network, run.tokenizer, sample, recipe),
        "bits_per_byte_protocol": PROTOCOL.replace("all", f"the first {N_SAMPLE}", 1),
        "held_out_bytes": sample.held_out_bytes,
        "held_out_documents": len(sample.held_out),
        **text_facts(texts, folder),
    }


def held_out_bits(network: nn.Module, tokenizer: Tokenizer, texts: Texts, recipe: Recipe) -> float:
    """Bits per byte on the held-out documents, to four digits after the point."""
    documents = token_ids(tokenizer, texts.held_out)
    figure = bits_per_byte(network.eval(), documents, texts.held_out_bytes, recipe.context_length)
    return round(figure, 4)


def rounded(network: Network) -> Network:
    """The same network with the weights that are stored: rounded to float16."""
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.float16).float()
    return network


def token_ids(tokenizer: Tokenizer, documents: Sequence[Document]) -> list[list[int]]:
    """Token ids of each document, without BOS."""
    return [encoding.ids for encoding in tokenizer.encode_batch_fast([d.text for d in documents])]


def planted_lines(documents: Sequence[Document]) -> int:
    """Lines that end in the planted comment."""
    return sum(document.text.count(f"{PLANTED}\n") for document in documents)
