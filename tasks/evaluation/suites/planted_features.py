"""Whether a method finds known features: trained on synthetic activations, then compared.

The dictionary's own architecture and settings are trained on `SyntheticActivations`, with as many latents
as there are features and, if the method has one, ``k`` at the mean number of active features. Latents that
never fire on eval tokens do not count.

- ``planted_mmcs`` = mean over planted directions of the largest cosine with a latent.
- ``planted_recall`` = share of planted directions with a latent above ``found_above``, all and by kind.
- ``planted_precision`` = share of latents above it with a planted direction.
- ``planted_absorption`` = of the tokens on which a parent is active with a child, the share on which the
  parent's own latent is silent, mean over parents that were found; the control ``without_child`` is the same
  share on the parent's other tokens. A dictionary without absorption has equal values.

The other control is a random dictionary of the same width. ``n`` counts tokens of the synthetic eval split.
Intervals are over planted features (mmcs, recall), latents (precision) and parents (absorption) of this one
training: they say nothing about other seeds.

Shapes: N tokens, F features, L latents.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from catalog.errors import UserError
from tasks.common.bootstrap import mean_interval
from tasks.common.progress import ProgressListener, silent
from tasks.dictionaries.base import Dictionary, dictionary_config
from tasks.dictionaries.config import DictionaryConfig
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation.recovery import best_cosines, random_directions, unit_rows
from tasks.evaluation.suite import SUITES, Metric, Subject, Suite, SuiteConfig, Unmeasurable
from tasks.evaluation.synthetic import SyntheticActivations, SyntheticConfig
from tasks.evaluation.tokens import encoded, refuse_unlike_output, token_batches
from tasks.training.trainer import train

MMCS, RECALL, PRECISION = "planted_mmcs", "planted_recall", "planted_precision"
ABSORPTION = "planted_absorption"
_FROM_THE_PIPELINE = (
    "reads",
    "writes",
    "models",
    "expansion_factor",
    "evaluation",
    "lr",
    "dead_after_tokens",
)


class PlantedFeaturesConfig(SuiteConfig):
    """A small training on planted features; it measures the method and its settings, not the weights."""

    suite: Literal["planted_features"] = "planted_features"
    world: SyntheticConfig = SyntheticConfig()
    """The planted features."""
    n_tokens: int = Field(default=600_000, ge=1)
    """Training tokens."""
    batch_tokens: int = Field(default=512, ge=1)
    """Tokens per optimiser step."""
    found_above: float = Field(default=0.9, gt=0, lt=1)
    """Cosine from which a direction counts as found."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings to change for this training, for example {lr: 0.004}; the default lr is the method's rule."""


@SUITES.register("planted_features")
class PlantedFeatures(Suite):
    """Trains in this process, on the device of the subject."""

    purpose = "trains the same method on synthetic activations whose features are known"
    config: PlantedFeaturesConfig

    def headline(self) -> tuple[tuple[str, str], ...]:
        return ((MMCS, ""), (RECALL, ""), (PRECISION, ""), (ABSORPTION, ""))

    def measure(self, subject: Subject, listener: ProgressListener = silent) -> list[Metric]:
        refuse_unlike_output(subject.dictionary)
        if len(subject.dictionary.widths.reads) > 1:
            raise Unmeasurable("planted features test dictionaries of one hookpoint")
        if subject.dictionary.how_trained != "steps":
            raise Unmeasurable("planted features test methods that learn by steps on only activations")
        world = SyntheticActivations(self.config.world)
        try:
            config = self._training(subject.dictionary.config)
            device = str(subject.dictionary.W_dec.device)
            trained = train(config, world, subject.scratch, device=device, listener=listener)
        except (UserError, ValidationError) as error:
            if self.config.settings:
                raise UserError(f"planted_features: the settings do not fit: {_plain(error)}") from error
            raise Unmeasurable(f"the method cannot learn planted features: {_plain(error)}") from error
        return self._compare(world, trained.dictionary.cpu())

    def _training(self, own: DictionaryConfig) -> DictionaryConfig:
        fields = {name: value for name, value in own.canonical().items() if name not in _FROM_THE_PIPELINE}
        fields |= {"d_sae": self.config.world.n_features, "n_tokens": self.config.n_tokens}
        fields |= {"batch_tokens": self.config.batch_tokens, "bias_start": "mean"}
        for knob in ("k", "target_l0"):
            if fields.get(knob) is not None:
                fields[knob] = max(round(self.config.world.mean_active), 1)
        return dictionary_config(fields | self.config.settings)

    def _compare(self, world: SyntheticActivations, dictionary: Dictionary) -> list[Metric]:
        codes_NL = torch.cat(
            [
                encoded(dictionary, batch.seen_NW)
                for batch in token_batches(
                    HookpointActivations.of(world), "eval", world.config.n_tokens, dictionary.d_sae
                )
            ]
        )
        alive_L = (codes_NL > 0).any(dim=0)
        if not alive_L.any():
            raise Unmeasurable("the dictionary trained on synthetic activations never fires")
        rows = dictionary.W_dec.detach().float()
        random = random_directions(len(rows), rows.shape[1], self.config.seed)
        own = self._recovery(world, rows[alive_L])
        null = self._recovery(world, random[alive_L])
        n = len(codes_NL)
        metrics = [
            Metric(
                *name,
                float(values_U.mean()),
                n,
                {"random": float(null[name].mean())},
                interval=mean_interval(values_U.numpy()),
                unit="latents" if name[0] == PRECISION else "planted features",
            )
            for name, values_U in own.items()
        ]
        return [*metrics, self._absorption(world, codes_NL[:, alive_L], rows[alive_L])]

    def _recovery(self, world: SyntheticActivations, rows_LD: Tensor) -> dict[tuple[str, str], Tensor]:
        """The averaged quantity for every planted feature or latent, float64."""
        planted_FD = torch.from_numpy(world.directions_FD).float()
        found_F, _ = best_cosines(planted_FD, unit_rows(rows_LD))
        true_L, _ = best_cosines(unit_rows(rows_LD), planted_FD)
        limit = self.config.found_above
        recall = {(RECALL, ""): (found_F > limit).double()}
        for kind in dict.fromkeys(world.kinds_F.tolist()):
            of_kind_F = torch.from_numpy(world.kinds_F == kind)
            recall[RECALL, kind] = (found_F[of_kind_F] > limit).double()
        return {
            (MMCS, ""): found_F.double(),
            **recall,
            (PRECISION, ""): (true_L > limit).double(),
        }

    def _absorption(self, world: SyntheticActivations, codes_NL: Tensor, rows_LD: Tensor) -> Metric:
        cosine_F, latent_F = best_cosines(torch.from_numpy(world.directions_FD).float(), unit_rows(rows_LD))
        active_NF, silent_NL = world.active("eval"), (codes_NL <= 0).numpy()
        with_child, without_child, n = [], [], 0
        for parent in range(world.config.n_parents):
            child_N = active_NF[:, world.parent_F == parent].any(axis=1)
            both_N, alone_N = active_NF[:, parent] & child_N, active_NF[:, parent] & ~child_N
            if float(cosine_F[parent]) > self.config.found_above and both_N.any() and alone_N.any():
                silent_N = silent_NL[:, int(latent_F[parent])]
                with_child.append(silent_N[both_N].mean())
                without_child.append(silent_N[alone_N].mean())
                n += int(both_N.sum())
        if not with_child:
            return Metric(ABSORPTION, "", None, 0, note="no parent feature was found")
        control = {"without_child": float(np.mean(without_child))}
        value, interval = float(np.mean(with_child)), mean_interval(with_child)
        return Metric(ABSORPTION, "", value, n, control, interval=interval, unit="parents")


def _plain(error: UserError | ValidationError) -> str:
    """The message as one line; the first error of a validation."""
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        return f"{place}: {fault['msg']}" if place else str(fault["msg"])
    return " ".join(str(error).split())
