"""Training with the language model in the loop: KL to its own predictions instead of reconstruction.

Legend: S sequences, B sequences of a part, T context, N valid tokens, D d_in, L d_sae, V vocabulary.

Each step takes complete sequences; several processes share them. Their activations come from the activation
set; the language model runs once unmodified and once with the reconstruction spliced in at every valid
token, and only the dictionary gets gradients. With z in the units of the training (mean input norm sqrt(D))
the loss is

    mean_N KL(clean || spliced) + l1_coefficient * mean_N sum_L z / D
      + downstream_coefficient * mean over later blocks of sum (r - r')^2 / sum (r - mean r)^2
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.caching.forecast import free_memory_bytes
from tasks.activations.hookpoint import Hookpoint
from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model
from tasks.activations.reading.capture import splice, watch
from tasks.activations.text.inputs import model_inputs
from tasks.dictionaries.architectures.end_to_end import EndToEndConfig
from tasks.dictionaries.gradient_config import GradientConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.dictionaries.stream import Cursor, TokenStream
from tasks.dictionaries.training_state import TrainingStep
from tasks.measures.fidelity import why_unmeasurable
from tasks.training.feed import Feed
from tasks.training.gradients import mean_of
from tasks.training.memory import (
    NotEnoughMemory,
    StorageMeter,
    TrainingMemory,
    usable_share,
    weights_bytes,
)
from tasks.training.replicas import Replicas
from tasks.training.run import TrainingRun

_LOGITS_PER_PART = 2**25


class SequenceStream(TokenStream):
    """Numbers of train sequences without end; each epoch is a separate permutation."""

    def next_batch(self, part: slice = slice(None)) -> Tensor:
        """The next sequences, enough to hold ``batch_tokens`` and at least one: (S,) int64.

        Always all of them: to weight its own part a process needs the number of tokens of all.
        """
        wanted = max(self.batch_tokens // self.activations.context_length, 1)
        parts: list[Tensor] = []
        while wanted:
            epoch, _, position = self.cursor
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.rows))
            taken = self.rows[order[position : position + wanted]]
            parts.append(torch.from_numpy(np.asarray(taken, dtype=np.int64)))
            wanted -= len(taken)
            is_over = position + len(taken) == len(self.rows)
            self.cursor = Cursor(epoch + 1) if is_over else Cursor(epoch, 0, position + len(taken))
        return torch.cat(parts)

    def resume(self) -> None:
        """The cursor is enough."""


class SequenceFeed(Feed):
    """Batches of whole sequences; measures of the data are those of its activations."""

    def __init__(self, activations: HookpointActivations, config: GradientConfig) -> None:
        super().__init__(activations, config)
        self.stream = SequenceStream(
            activations,
            seed=config.data_seed,
            batch_tokens=config.batch_tokens,
            buffer_tokens=config.buffer_tokens,
            block_sequences=config.block_sequences,
        )


class EndToEndRun(TrainingRun):
    """One training on one hookpoint of one model.

    Raises:
        UserError: when the activations are not those of one hookpoint of this model, the value there cannot
            be replaced, or several processes share the work.
    """

    config: EndToEndConfig

    def __init__(
        self,
        config: EndToEndConfig,
        activations: Any,
        device: torch.device,
        model: ModelConfig | LanguageModel | None,
        feed: Feed | None = None,
        replicas: Replicas | None = None,
        parent: Path | None = None,
    ) -> None:
        together = HookpointActivations.of(activations)
        own_feed = feed or SequenceFeed(together, config)
        super().__init__(config, together, device, own_feed, replicas, "float32", parent)
        self.language_model = _loaded(model, config, device)
        self.reader: Any = self.activations.reads[0]
        self.hookpoint = _checked_hookpoint(self.language_model, self.reader, config)
        self.later = _later_blocks(self.language_model, self.hookpoint, config)
        self.part_tokens = min(
            self.part_tokens, max(_LOGITS_PER_PART // self.language_model.spec.vocab_size, 1)
        )
        self._rows_S = np.empty(0, dtype=np.int64)

    def plan_memory(self, others_bytes: int = 0) -> TrainingMemory:
        """Measure the memory of one sequence and process fewer at a time if memory is short.

        Raises:
            NotEnoughMemory: when not even one sequence fits.
        """
        context = self.activations.context_length
        per_sequence = self._measure_sequence()
        own = weights_bytes(self.dictionary)
        batch_bytes = 4 * self.config.batch_tokens * self.dictionary.d_in
        fixed = TrainingMemory(own, self._missing_moments_bytes, others_bytes, batch_bytes)
        usable = int(usable_share(self.state) * free_memory_bytes(self.device))
        room = usable - fixed.missing_bytes - own
        if room < per_sequence:
            raise NotEnoughMemory(
                f"dictionary {self.config.name()!r}: one sequence of {context} tokens through the model "
                f"takes {per_sequence >> 20} MiB, {max(room, 0) >> 20} MiB are left: cache shorter "
                "sequences, or lower d_sae"
            )
        n_fitting = max(room // max(per_sequence, 1), 1)
        self._work_in_parts(min(self.part_tokens, n_fitting * context))
        return replace(fixed, step_bytes=own + per_sequence * (self.part_tokens // context))

    def _measure_sequence(self) -> int:
        """The maximum memory of the loss of one sequence and its gradient."""
        valid_ST = self.reader.tokens.valid
        row = next(row for row in self.feed.stream.rows if valid_ST[row].any())
        valid_1T = torch.from_numpy(np.asarray(valid_ST[[row]], dtype=bool))
        x_ND = torch.from_numpy(np.ascontiguousarray(self.reader.read([row])))[valid_1T].float()
        scaled_ND, _ = self.scaled(x_ND)
        with self.own_surroundings(), StorageMeter() as meter:
            step = self._part_loss(np.array([row]), valid_1T.to(self.device), scaled_ND)
            step.loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.zero_grad(set_to_none=True)
        peak_bytes: int = meter.peak_bytes
        return peak_bytes

    def _own_part(self, values_NW: Tensor) -> tuple[Tensor, Tensor, int]:
        """The valid tokens of this process's sequences; a batch is the numbers of all of them (S,)."""
        n_tokens = int(self._valid(values_NW.numpy()).sum())
        self._rows_S = values_NW[self.replicas.part(len(values_NW))].numpy()
        x_STD = torch.from_numpy(np.ascontiguousarray(self.reader.read(self._rows_S)))
        return *self.scaled(x_STD[self._valid(self._rows_S)].float()), n_tokens

    def _valid(self, rows_S: Any) -> Tensor:
        return torch.from_numpy(np.asarray(self.reader.tokens.valid[rows_S], dtype=bool))

    def _check_processes(self) -> None:
        n_processes, context = self.replicas.n_processes, self.activations.context_length
        n_sequences = max(self.config.batch_tokens // context, 1)
        if n_sequences < n_processes:
            raise UserError(
                f"dictionary {self.config.name()!r}: batch_tokens = {self.config.batch_tokens} holds "
                f"{n_sequences} sequences of {context} tokens, less than the {n_processes} processes that "
                "share them: raise batch_tokens, or use fewer processes"
            )

    def _gradient(self, x_ND: Tensor, y_NE: Tensor, n_tokens: int) -> TrainingStep:
        self.optimiser.zero_grad(set_to_none=True)
        steps: list[tuple[float, TrainingStep]] = []
        first = 0
        for rows_B in self._parts():
            valid_BT = self._valid(rows_B)
            last = first + int(valid_BT.sum())
            if last > first:
                step = self._part_loss(rows_B, valid_BT.to(self.device), x_ND[first:last])
                share = (last - first) / n_tokens
                (step.loss * share).backward()  # type: ignore[no-untyped-call]
                step.loss = step.loss.detach()
                steps.append((share, step))
            first = last
        step = mean_of(steps) if steps else self._nothing()
        return self.replicas.combine(step, self.dictionary.parameters())

    def _nothing(self) -> TrainingStep:
        """The contribution of a process whose sequences have no valid token."""
        zero = torch.zeros((), device=self.device)
        names = ("kl", "l1", *(("downstream_fvu",) if self.later else ()))
        fired_L = torch.zeros(self.dictionary.d_sae, dtype=torch.bool, device=self.device)
        return TrainingStep(zero, zero, zero, fired_L, dict.fromkeys(names, zero))

    def _parts(self) -> Iterator[Any]:
        """Sequences to process together."""
        size = max(self.part_tokens // self.activations.context_length, 1)
        for start in range(0, len(self._rows_S), size):
            yield self._rows_S[start : start + size]

    def _part_loss(self, rows_B: Any, valid_BT: Tensor, x_ND: Tensor) -> TrainingStep:
        config, model = self.config, self.language_model.model
        acts_NL = self.dictionary.encode(x_ND)
        recon_ND = self.dictionary.decode(acts_NL, x_ND)
        raw_ND = recon_ND / self.scales[0]

        def spliced_in(value_BTD: Tensor) -> Tensor:
            result_BTD = value_BTD.clone()
            result_BTD[valid_BT] = raw_ND.to(value_BTD)
            return result_BTD

        inputs = model_inputs(self.language_model, self.reader.tokens, rows_B)
        with watch(self.language_model, self.later) as seen:
            with torch.no_grad():
                clean_NV = torch.log_softmax(model(**inputs).logits[valid_BT].float(), dim=-1)
                clean = {name: seen[name][valid_BT].float() for name in self.later}
            with splice(self.language_model, self.hookpoint, spliced_in):
                spliced_NV = torch.log_softmax(model(**inputs).logits[valid_BT].float(), dim=-1)
            kl = (clean_NV.exp() * (clean_NV - spliced_NV)).sum(dim=1).mean()
            later = kl.new_zeros(())
            for name, value_ND in clean.items():
                later = later + _unexplained(value_ND, seen[name][valid_BT].float()) / len(clean)
        l1 = acts_NL.sum(dim=1).mean() / self.dictionary.d_in
        coefficient = config.l1_coefficient * self.state.ramp(config.sparsity_warmup_steps, share=0.1)
        loss = kl + coefficient * l1 + config.downstream_coefficient * later
        active_NL = acts_NL.detach() > 0
        parts = {"kl": kl.detach(), "l1": l1.detach()}
        if self.later:
            parts["downstream_fvu"] = later.detach()
        sse = (x_ND - recon_ND.detach()).square().sum(dim=1).mean()
        return TrainingStep(loss, sse, active_NL.sum() / len(x_ND), active_NL.any(dim=0), parts)


def _unexplained(clean_ND: Tensor, spliced_ND: Tensor) -> Tensor:
    total = (clean_ND - clean_ND.mean(dim=0)).square().sum().clamp_min(1e-12)
    return (clean_ND - spliced_ND).square().sum() / total


def _loaded(
    model: ModelConfig | LanguageModel | None, config: EndToEndConfig, device: torch.device
) -> LanguageModel:
    if isinstance(model, LanguageModel):
        return model
    if model is None:
        raise UserError(f"dictionary {config.name()!r} trains with the language model: name the model")
    return load_language_model(model, device.type)


def _checked_hookpoint(language_model: LanguageModel, reader: Any, config: EndToEndConfig) -> str:
    hookpoint = str(reader.hookpoint)
    reader.check_tokenizer(language_model.spec.tokenizer_digest)
    reason = why_unmeasurable(language_model, hookpoint)
    if reason is not None:
        raise UserError(f"dictionary {config.name()!r} cannot be trained at {hookpoint}: {reason}")
    return hookpoint


def _later_blocks(language_model: LanguageModel, hookpoint: str, config: EndToEndConfig) -> Sequence[str]:
    """The residual stream after each block that follows the hookpoint."""
    if config.downstream_coefficient == 0:
        return ()
    layer = Hookpoint.parse(hookpoint).layer
    n_layers = language_model.spec.n_layers
    later = range(0) if layer is None else range(layer + 1, n_layers)
    if not later:
        raise UserError(
            f"dictionary {config.name()!r}: no block comes after {hookpoint}: set downstream_coefficient to 0"
        )
    return tuple(str(Hookpoint(number, "resid_post")) for number in later)
