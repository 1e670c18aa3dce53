"""A training in progress: how it starts, what one step does, and how it ends.

Legend: N tokens of a batch, W width of all hookpoints together, D d_in, E d_out, L d_sae.
"""

import logging
import math
from pathlib import Path

import torch
from torch import Tensor

from catalog.errors import UserError
from catalog.faults import fault_point
from tasks.dictionaries.config import Precision
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import ActivationReader, sample_tokens
from tasks.dictionaries.trained import TrainedDictionary, TrainingInterrupted
from tasks.dictionaries.training_state import TrainingStep
from tasks.dictionaries.warm_start import start_from
from tasks.dictionaries.weights import load_dictionary, weights_digest
from tasks.training.feed import Feed
from tasks.training.gradients import batch_gradient, is_half
from tasks.training.memory import (
    PROBE_TOKENS,
    StepProbe,
    TrainingMemory,
    fitting_part,
    refuse_impossible_width,
    return_freed_memory,
    weights_bytes,
)
from tasks.training.nonfinite import NonFiniteLoss, cause
from tasks.training.replicas import Replicas
from tasks.training.resampling import SAMPLE_TOKENS, is_due, resample
from tasks.training.resumable import Resumable
from tasks.training.schedule import learning_rate

__all__ = ["NonFiniteLoss", "TrainedDictionary", "TrainingInterrupted", "TrainingRun"]

logger = logging.getLogger(__name__)

_SAMPLE_AFTER = 16_384
_SAMPLE_ACTS = 2**25


class TrainingRun(Resumable):
    """One training: its data, its steps and its result; `Resumable` holds the state that steps change.

    Args:
        config: Configuration of the dictionary.
        activations: Training data.
        device: Device of the weights.
        feed: Batches that other trainings use too; by default a separate feed.
        replicas: The processes that share the work.
        precision: Precision of the matrix products.
        parent: Folder of the dictionary whose weights it starts from; None for random ones.

    Raises:
        UserError: for sizes or settings that cannot work.
    """

    def __init__(
        self,
        config: GradientConfig,
        activations: ActivationReader,
        device: torch.device,
        feed: Feed | None = None,
        replicas: Replicas | None = None,
        precision: Precision = "auto",
        parent: Path | None = None,
    ) -> None:
        self.parent = parent
        self.feed = feed or Feed(HookpointActivations.of(activations), config)
        self.activations, self.replicas = self.feed.activations, replicas or Replicas()
        self.half = is_half(precision, device)
        widths = self.activations.widths
        refuse_impossible_width(config.name(), config.n_latents(widths.d_in), widths.d_out, device)
        share = -(-config.batch_tokens // self.replicas.n_processes)
        part_tokens = min(config.micro_batch_tokens or share, share)
        start = "" if parent is None else weights_digest(parent)
        super().__init__(config, self.activations, len(self.feed.stream.rows), device, part_tokens, start)
        self._check_resampling()
        self._check_processes()

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.state.step >= self.state.n_steps

    def start(self) -> None:
        """Measure the data and set what depends on it; take over the weights of a parent."""
        constants, self.sample_counts = self.feed.calibration(
            self.config.normalisation, self.config.bias_start
        )
        self.scales = constants.scales
        self.state.total_variance = constants.total_variance
        self.state.mean_norm, self.state.target_norm = constants.mean_norm, constants.target_norm
        self.state.input_mean = constants.input_mean.to(self.device)
        with torch.no_grad():
            self.dictionary.b_dec.copy_(constants.bias)
        with self.own_surroundings():
            self.dictionary.before_training(self.state)
        if self.parent is not None:
            parent = load_dictionary(self.parent).to(self.device)
            start_from(self.dictionary, parent, *self.activations.split_vector(self.scale_vector()))

    def plan_memory(self, others_bytes: int = 0) -> TrainingMemory | None:
        """Forecast the memory and split batches as far as needed; before the first step of a process.

        None for a method that does not learn from batches of activations alone. A training that resumes
        from a checkpoint keeps its parts if they fit. On a smaller machine they are halved, and from then
        on the training differs by rounding from an uninterrupted one.

        Args:
            others_bytes: Memory that other trainings in the process will still need, see `growth_bytes`.

        Raises:
            NotEnoughMemory: when it does not fit.
        """
        if self.dictionary.how_trained != "steps":
            return None
        x_ND, y_NE = self.scaled(sample_tokens(self.activations, "train", PROBE_TOKENS))
        on_card = self.device.type == "cuda"
        batch_bytes = 2 * 4 * self.config.batch_tokens * self.activations.d_in
        feed_bytes = batch_bytes if on_card else self.feed.stream.n_bytes
        fixed = TrainingMemory(
            weights_bytes(self.dictionary), self._missing_moments_bytes, others_bytes, feed_bytes
        )
        probe = StepProbe(self.dictionary, self.state, x_ND, y_NE, half=self.half)
        part_tokens, need = fitting_part(self.config.name(), probe, fixed, self.part_tokens, self.device)
        self._work_in_parts(part_tokens)
        return_freed_memory()
        return need

    def _work_in_parts(self, part_tokens: int) -> None:
        """Process this many tokens at a time; log it if they are fewer than requested, or than before."""
        if part_tokens < self.part_tokens:
            said = f"working on {part_tokens} of {self.part_tokens} tokens at a time"
            if self.state.step:
                said += f", from step {self.state.step} on no longer bit for bit the training that started"
            logger.warning("%s: memory is short, %s", self.config.name(), said)
        self.part_tokens = part_tokens

    @property
    def growth_bytes(self) -> int:
        """Memory between its steps that it does not hold yet: gradients and moments."""
        return weights_bytes(self.dictionary) + self._missing_moments_bytes

    @property
    def _missing_moments_bytes(self) -> int:
        """Both moments of Adam, unless a checkpoint restored them."""
        return 0 if self.optimiser.state else 2 * weights_bytes(self.dictionary)

    def step(self) -> TrainingStep:
        """One optimiser step on the next batch of the feed."""
        return self.learn(self.feed.next_batch(self.replicas.part(self.config.batch_tokens)))

    def learn(self, values_NW: Tensor) -> TrainingStep:
        """One optimiser step on this process's part of the last batch of the feed.

        Raises:
            NonFiniteLoss: when the loss or its gradient is NaN or infinite, naming the cause.
        """
        fault_point("train.step")
        with self.own_surroundings():
            x_ND, y_NE, n_tokens = self._own_part(values_NW)
            lr = self.learning_rate()
            result = self._gradient(x_ND, y_NE, n_tokens)
            self._refuse_nonfinite("loss", float(result.loss), result, x_ND, y_NE)
            self.dictionary.project_decoder_gradient()
            norm = torch.nn.utils.clip_grad_norm_(self.dictionary.parameters(), self.config.clip_norm)
            self._refuse_nonfinite("norm of the gradient", float(norm), result, x_ND, y_NE)
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            self.optimiser.step()
            self.dictionary.normalise_decoder()
            self.replicas.join(self.dictionary, self.state)
            self.dictionary.after_step(self.state)
            self.state.count(result.fired, n_tokens)
            self.replicas.settle(self.dictionary, self.state)
            self.log.note(result, self.state, lr)
            self._resample()
        self.position = self.feed.position
        return result

    def _own_part(self, values_NW: Tensor) -> tuple[Tensor, Tensor, int]:
        """Inputs and targets of the feed's batch, and the number of tokens of the complete batch."""
        return *self.scaled(values_NW), self.config.batch_tokens

    def _gradient(self, x_ND: Tensor, y_NE: Tensor, n_tokens: int) -> TrainingStep:
        self.optimiser.zero_grad(set_to_none=True)
        step = batch_gradient(
            self.dictionary,
            x_ND,
            y_NE,
            self.state,
            part_tokens=self.part_tokens,
            n_tokens=n_tokens,
            half=self.half,
        )
        return self.replicas.combine(step, self.dictionary.parameters())

    def _refuse_nonfinite(
        self, what: str, value: float, result: TrainingStep, x_ND: Tensor, y_NE: Tensor
    ) -> None:
        if not math.isfinite(value):
            place = f"dictionary {self.config.name()!r}: the {what} is {value} at step {self.state.step + 1}"
            culprit = cause(list(self.dictionary.named_parameters()), x_ND, y_NE, result.parts)
            remedy = f"lower lr (now {self.learning_rate():.3g}) or look for extreme activations"
            raise NonFiniteLoss(f"{place}: {culprit}: {remedy}")

    def _resample(self) -> None:
        config = self.config
        if is_due(self.state, config.resample_every_tokens, config.batch_tokens, config.decay_share):
            x_ND, y_NE = self.scaled(sample_tokens(self.activations, "train", SAMPLE_TOKENS))
            n_resampled = resample(self.dictionary, self.optimiser, x_ND, y_NE, self.state)
            self.log.add(self.state.step, self.state.n_tokens, {"resampled": n_resampled})

    def _check_resampling(self) -> None:
        if self.config.resample_every_tokens is not None and not self.dictionary.gradient.can_resample:
            raise UserError(
                f"dictionary {self.config.name()!r}: resample_every_tokens is for dictionaries without "
                "another way to revive dead latents, such as relu_l1: leave it out"
            )

    def _check_processes(self) -> None:
        if self.config.batch_tokens < self.replicas.n_processes:
            raise UserError(
                f"dictionary {self.config.name()!r}: batch_tokens = {self.config.batch_tokens} is less than "
                f"the {self.replicas.n_processes} processes that share it: use fewer processes"
            )

    def scale_vector(self) -> Tensor:
        """The factor on each activation: (W,)."""
        widths = torch.tensor(self.activations.hookpoint_widths)
        return torch.tensor(self.scales).repeat_interleave(widths).to(self.device)

    def scaled(self, values_NW: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, D) and targets (N, E) in the units of the training."""
        return self.activations.split(values_NW.to(self.device) * self.scale_vector())

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return learning_rate(self.config, self.state, self.dictionary.d_in)

    def finish(self, tokens_per_second: float) -> TrainedDictionary:
        """Finish what inference needs, fold the normalisation, return the result on the CPU."""
        with self.own_surroundings():
            n_tokens = min(_SAMPLE_AFTER, max(_SAMPLE_ACTS // self.dictionary.d_sae, 1_024))
            sample_ND, _ = self.scaled(sample_tokens(self.activations, "train", n_tokens))
            settled = self.dictionary.after_training(sample_ND)
        self.log.add(self.state.step, self.state.n_tokens, settled)
        self.dictionary.fold_scale(*self.activations.split_vector(self.scale_vector()))
        return TrainedDictionary(
            self.dictionary.cpu().eval().requires_grad_(False),
            self.log.table(),
            self.scales,
            self.sample_counts.n_nonfinite + self.position.n_nonfinite,
            tokens_per_second,
        )
