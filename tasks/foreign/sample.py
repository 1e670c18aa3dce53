"""Activations of the same few tokens at every hookpoint to which an imported dictionary may belong.

Legend: N tokens, T context, D width of a hookpoint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from catalog.errors import UserError
from tasks.activations.hookpoint import NAMES, Hookpoint
from tasks.activations.models.hookpoints import resolve_hookpoint
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PackedTokens
from tasks.dictionaries.base import Dictionary
from tasks.foreign.reading import Inputs
from tasks.foreign.sampled_sequences import Whole

_NEAR = (-2, -1, 1, 2)
"""Off-by-one layers are the commonest slip: layer outputs counted from the embedding, input for output."""
_SEQUENCES_PER_BATCH = 8
_NORM_BEFORE = ("pre_norm", "sandwich_norm")


class Hookpoints(NamedTuple):
    """Hookpoints that a dictionary reads and those it writes; the same if it reconstructs its input."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    models: tuple[str, ...] = ()
    """Models whose hookpoints are concatenated, all of the first before those of the second; empty if
    there is one model."""

    @classmethod
    def of(
        cls, reads: tuple[str, ...], writes: tuple[str, ...] = (), models: tuple[str, ...] = ()
    ) -> "Hookpoints":
        """Hookpoints; without ``writes`` it reconstructs what it reads."""
        return cls(reads, writes or reads, models)

    @classmethod
    def parse(cls, text: str) -> "Hookpoints":
        """Parse the output of `name`: ``blocks.1.resid_post`` or ``blocks.1.mlp_in,blocks.1.mlp_out``.

        Raises:
            UserError: when the text has another form.
        """
        sides = [tuple(part for part in side.split("+") if part) for side in text.split(",")]
        if not 1 <= len(sides) <= 2 or not all(sides):
            raise UserError(
                f"hookpoint {text!r} is not of the form READ or READ,WRITTEN, for example "
                "blocks.1.mlp_in,blocks.1.mlp_out; several are joined by +"
            )
        return cls.of(sides[0], sides[-1])

    def name(self) -> str:
        """The hookpoints read joined by ``+``, after a comma those written where they are others."""
        read = "+".join(self.reads)
        return read if self.reads == self.writes else f"{read},{'+'.join(self.writes)}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """What is read, as `Sample` names it: of several models each hookpoint with its model."""
        return self._of_all_models(self.reads)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is written, likewise."""
        return self._of_all_models(self.writes)

    def moved(self, by: int) -> "Hookpoints":
        """The same hookpoints some blocks later."""
        reads, writes = (tuple(_moved(h, by) for h in side) for side in (self.reads, self.writes))
        return self._replace(reads=reads, writes=writes)

    def renamed(self, name: str) -> "Hookpoints":
        """Another hookpoint of the same block, read and written."""
        read = Hookpoint.in_block(self.reads[0])
        return Hookpoints.of((str(read.renamed(name)),), models=self.models) if read else self

    def swapped(self) -> "Hookpoints":
        """The same hookpoints of the models in the other order."""
        return self._replace(models=self.models[::-1])

    def _of_all_models(self, hookpoints: tuple[str, ...]) -> tuple[str, ...]:
        if not self.models:
            return hookpoints
        return tuple(
            hookpoint_of_model(model, hookpoint) for model in self.models for hookpoint in hookpoints
        )


def hookpoint_of_model(model: str, hookpoint: str) -> str:
    """A hookpoint of one of several models."""
    return f"{model}/{hookpoint}"


@dataclass(frozen=True)
class Sample:
    """Activations (N, D) in float32 by hookpoint, all of the same tokens; see `Place.inputs`."""

    values: Mapping[str, Tensor]
    norms: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Gain and bias of the norm whose output a hookpoint is, where it is one: (D,) each."""
    whole: Whole | None = None
    """The sequences it was taken from, if they were asked for."""

    def width(self, hookpoint: str) -> int:
        """Width of a hookpoint."""
        return int(self.values[hookpoint].shape[1])

    def inputs(self, hookpoints: Hookpoints) -> Tensor:
        """What a dictionary at these hookpoints reads: (N, D)."""
        return torch.cat([self.values[hookpoint] for hookpoint in hookpoints.inputs], dim=1)

    def inputs_of(self, hookpoints: Hookpoints) -> Inputs:
        """The same, with what is known of the norm before it."""
        if len(hookpoints.inputs) == 1 and hookpoints.inputs[0] in self.norms:
            return Inputs(self.inputs(hookpoints), *self.norms[hookpoints.inputs[0]])
        return Inputs(self.inputs(hookpoints))

    def pair(self, hookpoints: Hookpoints) -> tuple[Tensor, Tensor]:
        """What it reads and what it should write."""
        x_ND = self.inputs(hookpoints)
        if hookpoints.reads == hookpoints.writes:
            return x_ND, x_ND
        return x_ND, torch.cat([self.values[hookpoint] for hookpoint in hookpoints.outputs], dim=1)

    def seen_by(self, dictionary: Dictionary, hookpoints: Hookpoints) -> tuple[Tensor, Tensor]:
        """What a dictionary encodes at these hookpoints, and what it should write."""
        x_ND, y_NE = self.pair(hookpoints)
        if not dictionary.reads_context:
            return x_ND, y_NE
        if self.whole is None:
            raise ValueError("a dictionary that reads context needs a sample of whole sequences")
        return self.whole.rows(dictionary, hookpoints.inputs), y_NE

    def finite(self, hookpoints: Hookpoints) -> "Sample":
        """Only tokens that are finite at these hookpoints; neighbours that are not finite there are left out.

        Raises:
            UserError: when there is no such token.
        """
        good_N = torch.ones(len(next(iter(self.values.values()))), dtype=torch.bool)
        for hookpoint in hookpoints.inputs + hookpoints.outputs:
            good_N &= torch.isfinite(self.values[hookpoint]).all(dim=1)
        if not bool(good_N.any()):
            raise UserError(
                f"{hookpoints.name()}: no token has finite activations there: choose another model format"
            )
        kept = {name: value_ND[good_N] for name, value_ND in self.values.items()}
        values = {name: x_ND for name, x_ND in kept.items() if bool(x_ND.isfinite().all())}
        return Sample(values, self.norms, self.whole and self.whole.taken(good_N))

    def first(self, n: int) -> "Sample":
        """The same of fewer tokens."""
        values = {name: value_ND[:n] for name, value_ND in self.values.items()}
        return Sample(values, self.norms, self.whole and self.whole.taken(slice(n)))

    def neighbours(self, hookpoints: Hookpoints) -> Iterator[Hookpoints]:
        """Nearby hookpoints with the same widths and other activations."""
        for other in near(hookpoints):
            if self.can_move(hookpoints, other):
                yield other

    def can_move(self, hookpoints: Hookpoints, other: Hookpoints) -> bool:
        """Whether other hookpoints were sampled, have the same width, and have other activations."""
        if not set(other.inputs + other.outputs) <= self.values.keys():
            return False
        x_ND, y_NE = self.pair(hookpoints)
        other_ND, other_NE = self.pair(other)
        if (other_ND.shape, other_NE.shape) != (x_ND.shape, y_NE.shape):
            return False
        return not (torch.equal(x_ND, other_ND) and torch.equal(y_NE, other_NE))


def near(hookpoints: Hookpoints) -> list[Hookpoints]:
    """The models in another order, the same hookpoints up to two blocks away, the others of the block."""
    others = [hookpoints.swapped()]
    if all(Hookpoint.in_block(hookpoint) for hookpoint in hookpoints.reads + hookpoints.writes):
        others += [hookpoints.moved(by) for by in _NEAR]
        if len(hookpoints.reads) == 1 and hookpoints.reads == hookpoints.writes:
            others += [hookpoints.renamed(name) for name in NAMES]
    return [other for other in others if other != hookpoints]


@torch.no_grad()
def gather_sample(
    language_model: LanguageModel,
    packed: PackedTokens,
    hookpoints: Hookpoints,
    n_tokens: int,
    *,
    named: Hookpoints | None = None,
    in_sequences: bool = False,
) -> Sample:
    """Run the model on a few sequences and keep the valid tokens at the hookpoints and near them.

    Args:
        language_model: The model that the dictionary is said to belong to, or one of them.
        packed: Tokens; those of the eval split are taken where there are enough.
        hookpoints: Where the dictionary reads and writes.
        n_tokens: Tokens to keep.
        named: Hookpoints that its file names, kept too if the model has them.
        in_sequences: Keep the whole sequences beside them, for a dictionary that reads context.

    Raises:
        UserError: when a hookpoint does not exist in the model.
    """
    wanted = dict.fromkeys(hookpoints.reads + hookpoints.writes)
    for hookpoint in wanted:
        resolve_hookpoint(language_model.model, hookpoint)
    for other in near(hookpoints) + ([] if named is None else [named]):
        wanted |= {name: None for name in other.reads + other.writes if _exists(language_model, name)}
    kept: dict[str, list[Tensor]] = {hookpoint: [] for hookpoint in wanted}
    whole: dict[str, list[Tensor]] = {hookpoint: [] for hookpoint in wanted if in_sequences}
    n_kept = n_rows = 0
    rows = np.concatenate([packed.sequence_rows("eval"), packed.sequence_rows("train")])
    for start in range(0, len(rows), _SEQUENCES_PER_BATCH):
        chosen = rows[start : start + _SEQUENCES_PER_BATCH]
        valid_BT = torch.from_numpy(np.array(packed.valid[chosen])).to(language_model.device)
        found = capture(language_model, list(wanted), model_inputs(language_model, packed, chosen))
        for hookpoint, value_BTD in found.items():
            kept[hookpoint].append(value_BTD[valid_BT].float().cpu())
            if in_sequences:
                whole[hookpoint].append(value_BTD.float().cpu())
        n_kept, n_rows = n_kept + int(valid_BT.sum()), n_rows + len(chosen)
        if n_kept >= n_tokens:
            break
    values = {hookpoint: torch.cat(parts)[:n_tokens] for hookpoint, parts in kept.items()}
    norms = {name: norm for name in values if (norm := _norm_before(language_model, name)) is not None}
    if not in_sequences:
        return Sample(values, norms)
    segment_ST, valid_ST = (
        torch.from_numpy(np.array(part[rows[:n_rows]])) for part in (packed.segment, packed.valid)
    )
    return Sample(values, norms, Whole.of(whole, segment_ST, valid_ST).taken(slice(n_tokens)))


def side_by_side(samples: Mapping[str, Sample]) -> Sample:
    """Samples of several models on the same tokens as one; that of one model as it is."""
    if len(samples) == 1:
        return next(iter(samples.values()))
    return Sample(
        {
            hookpoint_of_model(model, name): x
            for model, sample in samples.items()
            for name, x in sample.values.items()
        }
    )


def check_same_tokens(packed: Mapping[str, PackedTokens]) -> None:
    """Refuse models that tokenise the same texts differently.

    Raises:
        UserError: naming the models.
    """
    (first, ours), *others = packed.items()
    for model, theirs in others:
        for name in ("token_ids", "segment", "document_index", "valid"):
            if not np.array_equal(getattr(ours, name), getattr(theirs, name)):
                raise UserError(
                    f"models {first!r} and {model!r} have different tokenizers, so their activations do not "
                    "belong to the same tokens: a crosscoder of two models needs one tokenizer"
                )


def _norm_before(language_model: LanguageModel, hookpoint: str) -> tuple[Tensor, Tensor] | None:
    """Gain and bias of the norm that an MLP reads from, in models that norm before each branch."""
    layout, read = language_model.layout, Hookpoint.in_block(hookpoint)
    if layout is None or layout.family not in _NORM_BEFORE or read is None or read.name != "mlp_in":
        return None
    stream = resolve_hookpoint(language_model.model, str(read.renamed("resid_mid")))
    norm = language_model.model.get_submodule(stream.module)
    gain_D = norm.weight.detach().float().cpu() + layout.norm_offset
    if bool((gain_D == 0).any()):
        return None
    bias = getattr(norm, "bias", None)
    return gain_D, torch.zeros_like(gain_D) if bias is None else bias.detach().float().cpu()


def _exists(language_model: LanguageModel, hookpoint: str) -> bool:
    try:
        resolve_hookpoint(language_model.model, hookpoint)
    except UserError:
        return False
    return True


def _moved(hookpoint: str, by: int) -> str:
    found = Hookpoint.in_block(hookpoint)
    return str(found.moved(by)) if found else hookpoint
