"""The state that changes while a dictionary is trained, written to a checkpoint and restored from one."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.common.checkpoint import Checkpoint
from tasks.dictionaries.base import build_dictionary
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import Counts, Cursor
from tasks.dictionaries.training_log import TrainingLog
from tasks.dictionaries.training_state import TrainingState
from tasks.training.feed import Position


class Resumable:
    """Weights, optimiser, random state, counters and log of one training.

    Args:
        config: Configuration of the dictionary.
        activations: Training data.
        n_sequences: Train sequences of the activations.
        device: Device of the weights.
        part_tokens: Tokens to process together.
        start: SHA-256 of the weights that it starts from; empty for random ones.
    """

    def __init__(
        self,
        config: GradientConfig,
        activations: HookpointActivations,
        n_sequences: int,
        device: torch.device,
        part_tokens: int,
        start: str = "",
    ) -> None:
        self.config, self.device, self.part_tokens = config, device, part_tokens
        self._digest = config_digest(config, activations, n_sequences, start)
        self.dictionary = build_dictionary(config, activations.widths).to(device)
        self.optimiser = torch.optim.Adam(
            self.dictionary.parameters(),
            lr=config.base_lr(self.dictionary.d_in),
            betas=config.betas,
            eps=1e-8,
        )
        self.log = TrainingLog()
        self.position = Position()
        self.sample_counts = Counts()
        self.scales = (1.0,) * len(activations.hookpoint_widths)
        self.n_threads = torch.get_num_threads()
        self.randomness = torch.Generator().manual_seed(config.seed).get_state()
        self.state = TrainingState(
            n_steps=config.n_steps,
            dead_after_tokens=config.dead_tokens,
            total_variance=1.0,
            mean_norm=1.0,
            target_norm=1.0,
            tokens_since_fired=torch.zeros(self.dictionary.d_sae, dtype=torch.int64, device=device),
            generator=torch.Generator().manual_seed(config.seed),
        )

    @contextmanager
    def own_surroundings(self) -> Iterator[None]:
        """Within the context torch has this training's number of threads and its own global random state."""
        n_threads = torch.get_num_threads()
        if n_threads != self.n_threads:
            torch.set_num_threads(self.n_threads)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.set_rng_state(self.randomness)
                yield
                self.randomness = torch.get_rng_state()
        finally:
            if n_threads != self.n_threads:
                torch.set_num_threads(n_threads)

    def checkpoint(self) -> Checkpoint:
        """Everything that a restored training needs."""
        state, position = self.state, self.position
        weights = {**self.dictionary.state_dict(), "tokens_since_fired": state.tokens_since_fired}
        weights |= {f"memory.{name}": value for name, value in state.memory.items()}
        optimiser = {"generator": state.generator.get_state(), "torch_generator": self.randomness}
        for name, parameter in self.dictionary.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                optimiser[f"{name}.{key}"] = value
        return Checkpoint(
            state.step,
            weights,
            optimiser,
            {
                "config_digest": self._digest,
                "n_threads": self.n_threads,
                "part_tokens": self.part_tokens,
                "n_tokens": state.n_tokens,
                "cursor": list(position.cursor),
                "counts": [position.n_read, position.n_nonfinite],
                "sample_counts": [self.sample_counts.n_read, self.sample_counts.n_nonfinite],
                "scales": self.scales,
                "mean_norm": state.mean_norm,
                "target_norm": state.target_norm,
                "total_variance": state.total_variance,
                "log": self.log.rows,
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where a checkpoint was written, once the feed is at ``position``.

        Raises:
            UserError: when the checkpoint belongs to another configuration or activation set.
        """
        saved, state = checkpoint.state, self.state
        if saved["config_digest"] != self._digest:
            raise UserError(
                f"the checkpoint at step {checkpoint.step} belongs to another configuration than "
                f"{self.config.name()!r}: delete the checkpoints folder"
            )
        weights = dict(checkpoint.weights)
        state.tokens_since_fired = weights.pop("tokens_since_fired").to(self.device)
        memory = _moments(weights, "memory")
        state.memory = {name: value.to(self.device) for name, value in memory.items()}
        self.dictionary.load_state_dict({n: v for n, v in weights.items() if not n.startswith("memory.")})
        state.step, state.n_tokens = checkpoint.step, saved["n_tokens"]
        state.mean_norm, state.target_norm = saved["mean_norm"], saved["target_norm"]
        state.total_variance = saved["total_variance"]
        self.scales = tuple(saved["scales"])
        self.n_threads, self.part_tokens = saved["n_threads"], saved["part_tokens"]
        state.generator.set_state(checkpoint.optimiser["generator"])
        self.randomness = checkpoint.optimiser["torch_generator"]
        self.position = Position(checkpoint.step, Cursor(*saved["cursor"]), *saved["counts"])
        self.sample_counts = Counts(*saved["sample_counts"])
        self.log = TrainingLog(saved["log"])
        for name, parameter in self.dictionary.named_parameters():
            moments = _moments(checkpoint.optimiser, name)
            self.optimiser.state[parameter] = {key: _like(value, parameter) for key, value in moments.items()}


def config_digest(
    config: GradientConfig, activations: HookpointActivations, n_sequences: int, start: str = ""
) -> str:
    """Digest of what determines the weights, ``start`` included, and of the shape of the data."""
    shape = [activations.hookpoint_widths, activations.context_length, n_sequences]
    text = json.dumps([config.training(), shape, *([start] if start else [])], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _moments(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter; a step counter unchanged."""
    if value.ndim == 0:
        return value
    result = torch.empty_like(parameter, requires_grad=False)
    return result.copy_(value)
