"""Train an embedded language model: ``python -m tasks.activations.embedded.train pico-a``.

A killed run continues from its last checkpoint when it is started again. The finished model replaces the old
one file by file after all of them are written; its figures are in ``model_card.json``.
"""

import argparse
import json
import logging
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tasks.activations.corpora.source import Document
from tasks.activations.corpora.stdlib import HELD_OUT_MODULES, HELD_OUT_TOPICS, StandardLibrary
from tasks.activations.corpora.table import corpus_digest
from tasks.activations.embedded.baselines import n_gram_bits_per_byte
from tasks.activations.embedded.evaluate import bits_per_byte
from tasks.activations.embedded.export import export_model, write_json
from tasks.activations.embedded.recipes import RECIPES
from tasks.activations.embedded.run import TrainingRun, has_bfloat16

DEFAULT_MINUTES = 22.0
"""Leaves time for the tokenizer and the evaluation within 25 minutes."""
N_THREADS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train an embedded language model.")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, help="folder of the finished model")
    parser.add_argument("--work", type=Path, help="folder of the checkpoint")
    parser.add_argument("--minutes", type=float, default=DEFAULT_MINUTES, help="wall-clock budget")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(N_THREADS)
    out = options.out or Path(__file__).parent / options.name
    work_folder = options.work or Path.home() / ".cache" / "featlas" / "training" / options.name
    card = train_model(options.name, out, work_folder, options.minutes * 60)
    print(json.dumps(card, indent=2))


def train_model(name: str, out: Path, work_folder: Path, limit_seconds: float) -> dict[str, Any]:
    """Train, evaluate and write the model to ``out``; return its card."""
    source = StandardLibrary(StandardLibrary.Config())
    documents = list(source.documents())
    train = [document for document in documents if is_train(source, document)]
    held_out = [document for document in documents if not is_train(source, document)]
    recipe = RECIPES[name]
    run = TrainingRun(recipe, [document.text for document in train], work_folder, limit_seconds)
    run.train()
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    export_model(run.network, run.tokenizer, recipe, fresh)
    card = {
        **training_facts(run),
        **held_out_figures(run, train, held_out),
        "python_version": platform.python_version(),
        "corpus_digest": corpus_digest(documents),
        "held_out": sorted(HELD_OUT_MODULES | HELD_OUT_TOPICS),
        "weights_bytes": (fresh / "model.safetensors").stat().st_size,
    }
    write_json(fresh / "model_card.json", card)
    out.mkdir(exist_ok=True)
    for path in fresh.iterdir():
        path.replace(out / path.name)
    fresh.rmdir()
    return card


def is_train(source: StandardLibrary, document: Document) -> bool:
    """Whether the models may be trained on the document."""
    return source.split_of(document.document_id, eval_share=0.0) == "train"


def training_facts(run: TrainingRun) -> dict[str, Any]:
    """The inputs of the weights and the cost of the training."""
    recipe, position = run.recipe, run.position
    return {
        "recipe": recipe.canonical(),
        "n_parameters": sum(parameter.numel() for parameter in run.network.parameters()),
        "steps": position.step,
        "tokens_seen": position.step * recipe.batch_windows * recipe.context_length,
        "tokens_of_corpus": len(run.stream_N),
        "train_seconds": round(position.seconds, 1),
        "train_cpu_seconds": round(position.cpu_seconds, 1),
        "threads": torch.get_num_threads(),
        "matrix_products": "bfloat16" if has_bfloat16() else "float32",
        "torch_version": torch.__version__,
    }


def held_out_figures(
    run: TrainingRun, train: Sequence[Document], held_out: Sequence[Document]
) -> dict[str, Any]:
    """Bits per byte of the rounded weights on every byte of the held-out documents, and n-grams'."""
    recipe = run.recipe
    network = run.network.eval()
    for parameter in network.parameters():
        parameter.data = parameter.data.to(torch.float16).float()
    train_ids, held_out_ids = (
        [encoding.ids for encoding in run.tokenizer.encode_batch_fast([d.text for d in documents])]
        for documents in (train, held_out)
    )
    n_bytes = sum(len(document.text.encode()) for document in held_out)
    figure = bits_per_byte(network, held_out_ids, n_bytes, recipe.context_length)
    return {
        "bits_per_byte": round(figure, 4),
        "bits_per_byte_protocol": (
            "all held-out documents, weights as stored (float16), windows of context_length tokens that "
            "begin with BOS and overlap by half, each token scored once, over UTF-8 bytes"
        ),
        "bits_per_byte_by_n_gram_order": n_gram_bits_per_byte(
            train_ids, held_out_ids, n_bytes, recipe.vocab_size
        ),
        "held_out_bytes": n_bytes,
        "held_out_documents": len(held_out),
    }


if __name__ == "__main__":
    main()
