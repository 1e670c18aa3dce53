"""Train an embedded language model: ``python -m tasks.activations.embedded.train pico-a``.

A killed run continues from its last checkpoint when it is started again. The finished model replaces the old
one file by file after all of them are written; its figures are in ``model_card.json``.
"""

import argparse
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from catalog.errors import UserError
from tasks.activations.embedded.export import export_model, write_json
from tasks.activations.embedded.figures import (
    Texts,
    checkpoint_card,
    corpus_of,
    first_figures,
    text_facts,
    training_facts,
    tuned_figures,
)
from tasks.activations.embedded.recipes import RECIPES, TunedRecipe
from tasks.activations.embedded.run import TrainingRun
from tasks.activations.models.embedded import SERIES_STEPS, checkpoint_name

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
    parser.add_argument("--threads", type=int, default=N_THREADS, help="threads of the training")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    out = options.out or Path(__file__).parent / options.name
    work_folder = options.work or Path.home() / ".cache" / "featlas" / "training" / options.name
    card = train_model(options.name, out, work_folder, options.minutes * 60)
    print(json.dumps(card, indent=2))


def train_model(name: str, out: Path, work_folder: Path, limit_seconds: float) -> dict[str, Any]:
    """Train, evaluate and write the model to ``out``; return its card.

    Of a series only the checkpoints are written, in folders beside ``out``; the card is that of the last.

    Raises:
        UserError: when the clock ended a training whose checkpoints are named by their steps.
    """
    recipe, steps = RECIPES[name], SERIES_STEPS.get(name, ())
    texts = Texts.read(corpus_of(recipe))
    run = TrainingRun(recipe, [document.text for document in texts.train], work_folder, limit_seconds)

    def keep(step: int) -> None:
        if step in steps:
            export_model(run.network, run.tokenizer, recipe, work_folder / "steps" / str(step))

    run.train(after_step=keep)
    if steps:
        return publish_series(run, steps, texts, out, work_folder)
    fresh = new_folder(out)
    export_model(run.network, run.tokenizer, recipe, fresh)
    if isinstance(recipe, TunedRecipe):
        figures = tuned_figures(run, recipe, texts)
    else:
        figures = first_figures(run, texts)
    card = {**training_facts(run), **figures, **text_facts(texts, fresh)}
    publish(fresh, out, card)
    return card


def publish_series(
    run: TrainingRun, steps: Sequence[int], texts: Texts, out: Path, work_folder: Path
) -> dict[str, Any]:
    """Evaluate the kept checkpoints and write each as a model beside ``out``; return the last card."""
    name = run.recipe.name
    if run.position.step != steps[-1]:
        raise UserError(
            f"the clock ended {name} at step {run.position.step}, its series ends at {steps[-1]}: "
            "remove the work folder and give more --minutes"
        )
    card: dict[str, Any] = {}
    for step in steps:
        checkpoint = out.with_name(checkpoint_name(name, step))
        fresh = new_folder(checkpoint)
        shutil.copytree(work_folder / "steps" / str(step), fresh)
        card = checkpoint_card(run, step, texts, fresh)
        publish(fresh, checkpoint, card)
    return card


def new_folder(out: Path) -> Path:
    """The folder beside ``out`` in which a model is put together; it is not there yet."""
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    return fresh


def publish(fresh: Path, out: Path, card: dict[str, Any]) -> None:
    """Complete the model in ``fresh`` with its card and move its files to ``out``."""
    write_json(fresh / "model_card.json", card)
    out.mkdir(exist_ok=True)
    for path in fresh.iterdir():
        path.replace(out / path.name)
    fresh.rmdir()


if __name__ == "__main__":
    main()
