"""What of a training is written into a checkpoint, and how a training becomes what the checkpoint says."""

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.common.checkpoint import Checkpoint
from tasks.dictionaries.stream import Counts, Cursor
from tasks.dictionaries.training_log import TrainingLog
from tasks.training.feed import Position

if TYPE_CHECKING:
    from tasks.training.run import TrainingRun


def checkpoint_of(run: "TrainingRun") -> Checkpoint:
    """Everything that a restored training needs."""
    state, position = run.state, run.position
    weights = {**run.dictionary.state_dict(), "tokens_since_fired": state.tokens_since_fired}
    weights |= {f"memory.{name}": value for name, value in state.memory.items()}
    optimiser = {"generator": state.generator.get_state(), "torch_generator": run.randomness}
    for name, parameter in run.dictionary.named_parameters():
        for key, value in run.optimiser.state[parameter].items():
            optimiser[f"{name}.{key}"] = value
    return Checkpoint(
        state.step,
        weights,
        optimiser,
        {
            "config_digest": _config_digest(run),
            "n_threads": run.n_threads,
            "part_tokens": run.part_tokens,
            "n_tokens": state.n_tokens,
            "cursor": list(position.cursor),
            "counts": [position.n_read, position.n_nonfinite],
            "sample_counts": [run.sample_counts.n_read, run.sample_counts.n_nonfinite],
            "scales": run.scales,
            "mean_norm": state.mean_norm,
            "target_norm": state.target_norm,
            "total_variance": state.total_variance,
            "log": run.log.rows,
        },
    )


def restore_into(run: "TrainingRun", checkpoint: Checkpoint) -> None:
    """Continue exactly where a checkpoint was written, once the feed has gone to ``position``.

    Raises:
        UserError: when the checkpoint belongs to another configuration or activation set.
    """
    saved, state = checkpoint.state, run.state
    if saved["config_digest"] != _config_digest(run):
        raise UserError(
            f"the checkpoint at step {checkpoint.step} belongs to another configuration than "
            f"{run.config.name()!r}: delete the checkpoints folder"
        )
    weights = dict(checkpoint.weights)
    state.tokens_since_fired = weights.pop("tokens_since_fired").to(run.device)
    memory = _moments(weights, "memory")
    state.memory = {name: value.to(run.device) for name, value in memory.items()}
    run.dictionary.load_state_dict({n: v for n, v in weights.items() if not n.startswith("memory.")})
    state.step, state.n_tokens = checkpoint.step, saved["n_tokens"]
    state.mean_norm, state.target_norm = saved["mean_norm"], saved["target_norm"]
    state.total_variance = saved["total_variance"]
    run.scales = tuple(saved["scales"])
    run.n_threads, run.part_tokens = saved["n_threads"], saved["part_tokens"]
    state.generator.set_state(checkpoint.optimiser["generator"])
    run.randomness = checkpoint.optimiser["torch_generator"]
    run.position = Position(checkpoint.step, Cursor(*saved["cursor"]), *saved["counts"])
    run.sample_counts = Counts(*saved["sample_counts"])
    run.log = TrainingLog(saved["log"])
    for name, parameter in run.dictionary.named_parameters():
        moments = _moments(checkpoint.optimiser, name)
        run.optimiser.state[parameter] = {key: _like(value, parameter) for key, value in moments.items()}


def _config_digest(run: "TrainingRun") -> str:
    """Digest of what decides the weights and of the shape of the data."""
    activations = run.activations
    shape = [activations.site_widths, activations.context_length, len(run.feed.stream.rows)]
    text = json.dumps([run.config.training(), shape], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _moments(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter; a step counter as it is."""
    if value.ndim == 0:
        return value
    result = torch.empty_like(parameter, requires_grad=False)
    return result.copy_(value)
