"""One training run of an embedded model: resumable; it ends after its steps or its time."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW, Muon, Optimizer

from tasks.activations.embedded.checkpoints import Position, load_checkpoint, save_checkpoint
from tasks.activations.embedded.export import WEIGHTS_FILE, read_weights
from tasks.activations.embedded.network import Network
from tasks.activations.embedded.recipes import Recipe, TunedRecipe
from tasks.activations.embedded.text import batch_at, parent_tokenizer, token_stream, train_tokenizer
from tasks.activations.models.embedded import embedded_model_path

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
LOG_STEPS = 50


class TrainingRun:
    """One model in training: its tokenizer, network, optimisers and work folder.

    Args:
        texts: the training documents.
        work_folder: The folder of the checkpoint.
        limit_seconds: Wall-clock budget over all processes of the run. The learning rate follows the larger
           of the shares of steps and of seconds: a slow machine ends in time with a learning rate of
           zero; a fast one follows only the steps and gets the same weights every time.
    """

    def __init__(self, recipe: Recipe, texts: Sequence[str], work_folder: Path, limit_seconds: float) -> None:
        self.recipe = recipe
        self.limit_seconds = limit_seconds
        self.checkpoint_folder = work_folder / "checkpoint"
        parent = embedded_model_path(recipe.parent) if isinstance(recipe, TunedRecipe) else None
        self.tokenizer: Tokenizer = parent_tokenizer(parent) if parent else train_tokenizer(recipe, texts)
        self.stream_N = token_stream(self.tokenizer, texts)
        torch.manual_seed(recipe.seed)
        self.network = Network(recipe)
        self.optimizers = make_optimizers(self.network, recipe)
        self.identity = {
            "recipe": sha256(json.dumps(recipe.canonical(), sort_keys=True).encode()),
            "stream": sha256(self.stream_N.numpy().tobytes()),
        }
        if parent:
            read_weights(self.network, recipe, parent)
            self.identity["parent"] = sha256((parent / WEIGHTS_FILE).read_bytes())
        self.position = load_checkpoint(self.checkpoint_folder, self.network, self.optimizers, self.identity)

    @property
    def progress(self) -> float:
        """From 0 to 1, by steps or by seconds, whichever is further."""
        by_steps = self.position.step / self.recipe.n_steps
        return min(1.0, max(by_steps, self.position.seconds / self.limit_seconds))

    def train(
        self,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        after_step: Callable[[int], None] = lambda step: None,
    ) -> None:
        """Step to the end of the schedule, with regular checkpoints and one at the end.

        ``after_step`` is called with the number of steps done. It runs before a checkpoint of that step, so a
        kill inside of it repeats the step.
        """
        saved_at = time.monotonic()
        while self.progress < 1:
            started, cpu_started = time.monotonic(), time.process_time()
            loss = self.step()
            self.position = Position(
                self.position.step + 1,
                self.position.seconds + time.monotonic() - started,
                self.position.cpu_seconds + time.process_time() - cpu_started,
            )
            after_step(self.position.step)
            if self.position.step % LOG_STEPS == 0:
                log.info("step %d, %.0f s, loss %.3f", *self.position[:2], loss)
            if time.monotonic() - saved_at > checkpoint_seconds:
                self.save()
                saved_at = time.monotonic()
        self.save()

    def step(self) -> float:
        """One batch, one update; return the loss in nats per token."""
        self.network.train()
        inputs_BT, targets_BT = batch_at(self.stream_N, self.recipe, self.position.step)
        with half_precision():
            logits_BTV: Tensor = self.network(inputs_BT)
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())
        torch.autograd.backward(loss)
        factor = schedule(self.progress, self.recipe)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def save(self) -> None:
        """Checkpoint now."""
        save_checkpoint(self.checkpoint_folder, self.network, self.optimizers, self.position, self.identity)


def make_optimizers(network: Network, recipe: Recipe) -> list[Optimizer]:
    """Muon (arXiv:2502.16982, its scaling) for hidden matrices, AdamW for everything else."""
    named = list(network.named_parameters())
    matrices = [value for name, value in named if value.ndim == 2 and name != "embed.weight"]
    others = [value for name, value in named if value.ndim != 2 or name == "embed.weight"]
    return [
        Muon(
            [{"params": matrices, "peak_lr": recipe.matrix_lr}],
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        AdamW([{"params": others, "peak_lr": recipe.other_lr}], betas=(0.9, 0.98), weight_decay=0.0),
    ]


def schedule(progress: float, recipe: Recipe) -> float:
    """Share of the peak learning rate: up, flat, and linearly down to a hundredth."""
    up = 0.01 + progress / recipe.warmup_share
    down = (1 - progress) / recipe.decay_share
    return max(0.01, min(1.0, up, down))


def half_precision() -> AbstractContextManager[object]:
    """bfloat16 products where the processor has instructions for them, else float32."""
    return torch.autocast("cpu", torch.bfloat16) if has_bfloat16() else nullcontext()


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def sha256(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()
