"""A training in progress: all that changes, how one step changes it, and how it is saved and restored.

Legend: N tokens of a batch, W width of all hookpoints together, D d_in, E d_out, L d_sae.
"""

import hashlib
import json
import math
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from catalog.errors import UserError
from catalog.faults import fault_point
from tasks.dictionaries.base import Dictionary, TrainingState, TrainingStep, build_dictionary
from tasks.dictionaries.calibration import SAMPLE_TOKENS, calibrate
from tasks.dictionaries.checkpoint import Checkpoint
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.sites import SiteActivations
from tasks.dictionaries.stream import ActivationReader, Cursor, TokenStream, sample_tokens
from tasks.dictionaries.training_log import TrainingLog

_LOGGED_STEPS = 200
_SAMPLE_AFTER = 16_384


class NonFiniteLoss(UserError):
    """The loss became NaN or infinite."""


class TrainingInterrupted(Exception):
    """The training was asked to stop; it has written a checkpoint and can go on from there."""


@dataclass(frozen=True)
class TrainedDictionary:
    """What a training gives; normalisation is folded in."""

    dictionary: Dictionary
    log: pa.Table
    """step, n_tokens, metric, value"""
    scales: tuple[float, ...]
    """Factor on the activations of each hookpoint during the training, folded into the weights."""
    n_nonfinite: int
    """Tokens left out because a value was NaN or infinite."""
    tokens_per_second: float
    """Speed of this process, checkpoints included."""


class TrainingRun:
    """All that changes in a training, and how one step changes it."""

    def __init__(self, config: DictionaryConfig, activations: ActivationReader, device: torch.device) -> None:
        self.config, self.activations, self.device = config, SiteActivations.of(activations), device
        self.dictionary = build_dictionary(config, self.activations.widths).to(device)
        self.optimiser = torch.optim.Adam(
            self.dictionary.parameters(),
            lr=config.base_lr(self.dictionary.d_in),
            betas=(config.beta1, config.beta2),
            eps=1e-8,
        )
        self.stream = TokenStream(
            self.activations,
            seed=config.data_seed,
            batch_tokens=config.batch_tokens,
            buffer_tokens=config.buffer_tokens,
            block_sequences=config.block_sequences,
        )
        self.log = TrainingLog()
        self.scales = (1.0,) * len(self.activations.site_widths)
        self.state = TrainingState(
            n_steps=config.n_steps,
            dead_after_tokens=config.dead_tokens,
            total_variance=1.0,
            mean_norm=1.0,
            target_norm=1.0,
            tokens_since_fired=torch.zeros(self.dictionary.d_sae, dtype=torch.int64, device=device),
            generator=torch.Generator().manual_seed(config.seed),
        )

    def start(self) -> None:
        """Measure the data and set what depends on it."""
        sample_NW = sample_tokens(self.activations, "train", SAMPLE_TOKENS, self.stream.counts)
        constants = calibrate(
            sample_NW,
            self.config.normalisation,
            self.config.bias_start,
            self.activations.site_widths,
            None if self.activations.writes is None else len(self.activations.reads),
        )
        self.scales = constants.scales
        self.state.total_variance = constants.total_variance
        self.state.mean_norm, self.state.target_norm = constants.mean_norm, constants.target_norm
        with torch.no_grad():
            self.dictionary.b_dec.copy_(constants.bias)
        self.dictionary.before_training(self.state)

    def step(self) -> TrainingStep:
        """One optimiser step on the next batch."""
        fault_point("train.step")
        x_ND, y_NE = self.scaled(self.stream.next_batch())
        lr = self.learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        result = self.dictionary.training_loss(x_ND, y_NE, self.state)
        loss = result.loss.item()
        if not math.isfinite(loss):
            raise NonFiniteLoss(
                f"dictionary {self.config.name()!r}: the loss is {loss} at step "
                f"{self.state.step + 1}: lower lr (now {lr:.3g}) or look for extreme activations"
            )
        self.optimiser.zero_grad(set_to_none=True)
        result.loss.backward()  # type: ignore[no-untyped-call]
        self.dictionary.project_decoder_gradient()
        torch.nn.utils.clip_grad_norm_(self.dictionary.parameters(), self.config.clip_norm)
        self.optimiser.step()
        self.dictionary.normalise_decoder()
        self.dictionary.after_step(self.state)
        self.state.count(result.fired, len(x_ND))
        self._note(result, lr)
        return result

    def scale_vector(self) -> Tensor:
        """The factor on each activation: (W,)."""
        widths = torch.tensor(self.activations.site_widths)
        return torch.tensor(self.scales).repeat_interleave(widths).to(self.device)

    def scaled(self, values_NW: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, D) and targets (N, E) in the units of the training."""
        return self.activations.split(values_NW.to(self.device) * self.scale_vector())

    def learning_rate(self) -> float:
        """Linear warm-up, plateau, linear decay to zero over the last ``decay_share``."""
        config, state = self.config, self.state
        n_decay = config.decay_share * config.n_steps
        left = config.n_steps - state.step
        decay = min(left / n_decay, 1.0) if n_decay else 1.0
        return config.base_lr(self.dictionary.d_in) * state.ramp(config.warmup_steps, share=0.05) * decay

    def finish(self, tokens_per_second: float) -> TrainedDictionary:
        """Settle what inference needs, fold the normalisation, return the result on the CPU."""
        sample_ND, _ = self.scaled(sample_tokens(self.activations, "train", _SAMPLE_AFTER))
        settled = self.dictionary.after_training(sample_ND)
        self.log.add(self.state.step, self.state.n_tokens, settled)
        self.dictionary.fold_scale(*self.activations.split_vector(self.scale_vector()))
        return TrainedDictionary(
            self.dictionary.cpu().eval().requires_grad_(False),
            self.log.table(),
            self.scales,
            self.stream.counts.n_nonfinite,
            tokens_per_second,
        )

    def checkpoint(self) -> Checkpoint:
        """Everything that a restored training needs."""
        state, counts = self.state, self.stream.counts
        weights = {**self.dictionary.state_dict(), "tokens_since_fired": state.tokens_since_fired}
        weights |= {f"memory.{name}": value for name, value in state.memory.items()}
        optimiser = {"generator": state.generator.get_state(), "torch_generator": torch.get_rng_state()}
        for name, parameter in self.dictionary.named_parameters():
            for key, value in self.optimiser.state[parameter].items():
                optimiser[f"{name}.{key}"] = value
        return Checkpoint(
            state.step,
            weights,
            optimiser,
            {
                "config_digest": self.config_digest(),
                "n_threads": torch.get_num_threads(),
                "n_tokens": state.n_tokens,
                "cursor": list(self.stream.cursor),
                "counts": [counts.n_read, counts.n_nonfinite],
                "scales": self.scales,
                "mean_norm": state.mean_norm,
                "target_norm": state.target_norm,
                "total_variance": state.total_variance,
                "log": self.log.rows,
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly where a checkpoint was written.

        Raises:
            UserError: when the checkpoint belongs to another configuration or activation set.
        """
        saved, state = checkpoint.state, self.state
        if saved["config_digest"] != self.config_digest():
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
        state.generator.set_state(checkpoint.optimiser["generator"])
        torch.set_rng_state(checkpoint.optimiser["torch_generator"])
        self.stream.cursor = Cursor(*saved["cursor"])
        self.stream.counts.n_read, self.stream.counts.n_nonfinite = saved["counts"]
        self.stream.resume()
        self.log = TrainingLog(saved["log"])
        for name, parameter in self.dictionary.named_parameters():
            moments = _moments(checkpoint.optimiser, name)
            self.optimiser.state[parameter] = {key: _like(value, parameter) for key, value in moments.items()}

    def config_digest(self) -> str:
        """Digest of the configuration and of the shape of the data."""
        shape = [self.activations.site_widths, self.activations.context_length, len(self.stream.rows)]
        text = json.dumps([self.config.canonical(), shape], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _note(self, result: TrainingStep, lr: float) -> None:
        step, n_steps = self.state.step, self.state.n_steps
        if step % max(n_steps // _LOGGED_STEPS, 1) and step not in (1, n_steps):
            return
        values = {
            "loss": result.loss.item(),
            "fvu": float(result.sse) / self.state.total_variance,
            "l0": float(result.l0),
            "lr": lr,
            "unseen_share": float(self.state.dead.float().mean()),
            **{name: float(value) for name, value in result.parts.items()},
        }
        self.log.add(step, self.state.n_tokens, values)


def _moments(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    """A moment in the memory layout of its parameter; a step counter as it is."""
    if value.ndim == 0:
        return value
    result = torch.empty_like(parameter, requires_grad=False)
    return result.copy_(value)
