"""Preservation of the language model's behaviour when activations are replaced.

Shapes: B sequences, T context, D width read, E width replaced, V vocabulary, N tokens, P predicted tokens.

In one pass over eval sequences the model runs once unmodified and once per replacement. What comes before
the replaced hookpoint is equal in all runs, so only the unmodified one computes it (`Prefix`). Only valid
tokens are replaced (never BOS or padding). A causal model is scored on each valid token whose successor is in
the same document; a masked model on a fixed random share of its valid tokens, masked. Cross-entropy and
KL(clean || replaced) are means over the same P tokens, in nats.

- ``ce_recovered`` = (CE_ablated - CE_replaced) / (CE_ablated - CE_clean), for zero and mean ablation
- ``kl_recovered`` = (KL_ablated - KL_replaced) / KL_ablated
- ``delta_ce`` = CE_replaced - CE_clean

A replacement may be computed from other hookpoints than the replaced one (a transcoder reads the input of
an MLP and writes its output). These are read in the unmodified run, which is exact if they come first. For
several hookpoints replaced at once see `tasks.measures.fidelity_layers`, for crosscoders
`tasks.measures.fidelity_hookpoints`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.activations.models.hookpoints import resolve_hookpoint
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.capture import capture, splice
from tasks.activations.reading.resume import Prefix
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PackedTokens
from tasks.common.progress import Progress, ProgressListener, silent
from tasks.measures.clean_runs import CleanRun, CleanRuns
from tasks.measures.fidelity_sums import CLEAN, Fidelity

VERSION = 1
ABLATIONS = ("zero_ablation", "mean_ablation")
MASKED_SHARE = 0.15
"""The share that BERT was trained with."""
_LOGITS_PER_BATCH = 2**26
_POSITIONS_AT_ONCE = 4096

Replacement = Callable[[Tensor], Tensor]
"""Maps the inputs (N, D), float32, to what replaces the activations: (N, E)."""


@dataclass(frozen=True)
class ReplacementInContext:
    """A replacement of rows that contain information about earlier tokens of the document."""

    view: Callable[[Tensor, Tensor], Tensor]
    """Maps activations of the hookpoint (B, T, D), float32, and segments (B, T) to rows (B, T, W)."""
    replace: Replacement

    def __call__(self, rows_NW: Tensor) -> Tensor:
        return self.replace(rows_NW)


class Batch(NamedTuple):
    """Sequences that run together."""

    rows: NDArray[Any]
    """Their numbers."""
    inputs: dict[str, Any]
    segment_BT: Tensor
    """Number of the document within its sequence."""
    valid_BT: Tensor
    """Which tokens are replaced."""
    scored_BT: Tensor
    """Tokens whose predictions count."""
    targets_P: Tensor
    document_P: NDArray[Any]
    """Document of each token that is scored."""


Splicing = Callable[[Batch], Callable[[Replacement], AbstractContextManager[Any]]]
"""How a replacement enters the forward passes of a batch."""


def why_unmeasurable(language_model: LanguageModel, hookpoint: str) -> str | None:
    """Why CE and KL cannot be measured here, or None."""
    spec = language_model.spec
    if not language_model.has_head:
        return "the model has no language-model head"
    if not spec.is_causal and spec.mask_token_id is None:
        return "a masked language model without a mask token"
    if not resolve_hookpoint(language_model.model, hookpoint).replaceable:
        return f"{hookpoint} can be read but not replaced in this model"
    return None


def measure_fidelity(
    language_model: LanguageModel,
    tokens: PackedTokens,
    rows: NDArray[Any],
    hookpoint: str,
    mean_E: Tensor,
    replacements: Mapping[str, Replacement],
    *,
    reads: Sequence[str] | None = None,
    seed: int = 0,
    ablate: bool = True,
    clean: CleanRuns | None = None,
    listener: ProgressListener = silent,
) -> Fidelity:
    """Run the sequences ``rows`` unmodified, with each replacement, and with both ablations.

    Args:
        language_model: The model the activations came from.
        tokens: The packed tokens of the activation set.
        rows: Sequences to run, of the eval split.
        hookpoint: Where values are replaced.
        mean_E: Mean activation of the train tokens that controls are fitted on, for the mean ablation.
        replacements: What to put in place of valid activations, by name.
        reads: Hookpoints from which replacements are computed, concatenated; default: the replaced one.
        seed: Chooses the masked tokens of a masked model.
        ablate: Whether to run the ablations; they are the same for all dictionaries of a hookpoint.
        clean: Unmodified runs of the same sequences, model and seed; missing ones are added.
        listener: Called after each run of the model with the number of sequences.
    """

    def splicing(batch: Batch) -> Callable[[Replacement], AbstractContextManager[Any]]:
        read_ND = None if reads is None else _read(language_model, batch, reads)

        def at_hookpoint(replace: Replacement) -> AbstractContextManager[Any]:
            fixed = replace if read_ND is None else _always(replace(read_ND))
            view = partial(_seen, replace, batch) if isinstance(replace, ReplacementInContext) else None
            return splice(language_model, hookpoint, partial(replace_valid, batch.valid_BT, fixed, view=view))

        return at_hookpoint

    arguments = (language_model, tokens, rows, mean_E, replacements, splicing, seed, ablate)
    prefix = Prefix(language_model, hookpoint)
    return measure_spliced(*arguments, prefix=prefix, clean=clean, listener=listener)


@torch.no_grad()
def measure_spliced(
    language_model: LanguageModel,
    tokens: PackedTokens,
    rows: NDArray[Any],
    mean_E: Tensor,
    replacements: Mapping[str, Replacement],
    splicing: Splicing,
    seed: int,
    ablate: bool = True,
    prefix: Prefix | None = None,
    clean: CleanRuns | None = None,
    listener: ProgressListener = silent,
) -> Fidelity:
    """The same for any way in which a replacement enters a forward pass; none enters it before ``prefix``."""
    ablations: dict[str, Replacement] = {
        "zero_ablation": lambda x_ND: mean_E.to(x_ND).new_zeros(len(x_ND), len(mean_E)),
        "mean_ablation": lambda x_ND: mean_E.to(x_ND).expand(len(x_ND), -1),
    }
    together = {**(ablations if ablate else {}), **replacements}
    result = Fidelity()
    clean = clean or CleanRuns(most_bytes=0)
    n_runs, done = len(rows) * (1 + len(together)), 0
    for number, batch in enumerate(_batches(language_model, tokens, rows, seed)):
        spliced = splicing(batch)
        run = clean.of(number, partial(_clean_run, language_model, batch, prefix)).to(language_model.device)
        clean_PV = run.log_probs_PV
        result.n += len(batch.targets_P)
        result.documents.append(batch.document_P)
        _add(result, CLEAN, clean_PV, clean_PV, batch.targets_P)
        for name, replace in together.items():
            done += len(batch.rows)
            listener(Progress("sequences predicted", done, n_runs))
            with spliced(replace), prefix.skipped(run.stream_BTD) if prefix else nullcontext():
                log_probs_PV = _log_probs(language_model, batch)
            _add(result, name, clean_PV, log_probs_PV, batch.targets_P)
        done += len(batch.rows)
        listener(Progress("sequences predicted", done, n_runs))
    return result


def replace_valid(
    valid_BT: Tensor,
    replace: Replacement,
    value_BTD: Tensor,
    view: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Activations with those of the valid tokens replaced: (B, T, D); ``view`` gives the rows to read."""
    result_BTD, seen_BTW = value_BTD.clone(), value_BTD if view is None else view(value_BTD)
    result_BTD[valid_BT] = replace(seen_BTW[valid_BT].float()).to(value_BTD)
    return result_BTD


def _seen(replace: ReplacementInContext, batch: Batch, value_BTD: Tensor) -> Tensor:
    return replace.view(value_BTD.float(), batch.segment_BT)


def _read(language_model: LanguageModel, batch: Batch, hookpoints: Sequence[str]) -> Tensor:
    """Valid activations of several hookpoints, concatenated: (N, D)."""
    values = capture(language_model, hookpoints, batch.inputs)
    return torch.cat([values[name][batch.valid_BT].float() for name in hookpoints], dim=1)


def _always(value_NE: Tensor) -> Replacement:
    return lambda _: value_NE


def _batches(
    language_model: LanguageModel, tokens: PackedTokens, rows: NDArray[Any], seed: int
) -> Iterator[Batch]:
    size = max(_LOGITS_PER_BATCH // (language_model.spec.vocab_size * tokens.context_length), 1)
    for start in range(0, len(rows), size):
        chosen = np.asarray(rows[start : start + size])
        batch = _causal(language_model, tokens, chosen)
        if not language_model.spec.is_causal:
            batch = _masked(language_model, tokens, chosen, seed)
        if len(batch.targets_P):
            yield batch


def _causal(language_model: LanguageModel, tokens: PackedTokens, rows: NDArray[Any]) -> Batch:
    """Score each valid token whose successor is in the same segment, by that successor."""
    inputs = model_inputs(language_model, tokens, rows)
    segment_BT, valid_BT = np.array(tokens.segment[rows]), np.asarray(tokens.valid[rows])
    scored_BT = np.zeros_like(valid_BT)
    scored_BT[:, :-1] = valid_BT[:, :-1] & (segment_BT[:, :-1] == segment_BT[:, 1:])
    segment, scored, valid = (
        torch.from_numpy(part).to(language_model.device) for part in (segment_BT, scored_BT, valid_BT)
    )
    targets_P = inputs["input_ids"].roll(-1, dims=1)[scored]
    return Batch(rows, inputs, segment, valid, scored, targets_P, tokens.document_index[rows][scored_BT])


def _masked(language_model: LanguageModel, tokens: PackedTokens, rows: NDArray[Any], seed: int) -> Batch:
    """Mask a share of the valid tokens of each sequence, chosen by (seed, sequence), and score those."""
    inputs = model_inputs(language_model, tokens, rows)
    valid_BT = np.asarray(tokens.valid[rows])
    drawn_BT = np.stack([np.random.default_rng((seed, int(row))).random(valid_BT.shape[1]) for row in rows])
    scored_BT = valid_BT & (drawn_BT < MASKED_SHARE)
    segment, scored, valid = (
        torch.from_numpy(part).to(language_model.device)
        for part in (np.array(tokens.segment[rows]), scored_BT, valid_BT)
    )
    targets_P = inputs["input_ids"][scored]
    mask_token = torch.tensor(language_model.spec.mask_token_id, device=language_model.device)
    inputs["input_ids"] = torch.where(scored, mask_token, inputs["input_ids"])
    return Batch(rows, inputs, segment, valid, scored, targets_P, tokens.document_index[rows][scored_BT])


def _clean_run(language_model: LanguageModel, batch: Batch, prefix: Prefix | None) -> CleanRun:
    if prefix is None:
        return CleanRun(_log_probs(language_model, batch))
    with prefix.kept() as stream:
        log_probs_PV = _log_probs(language_model, batch)
    return CleanRun(log_probs_PV, *stream)


def _log_probs(language_model: LanguageModel, batch: Batch) -> Tensor:
    """Log-probabilities (P, V) at the scored tokens."""
    logits = language_model.model(**batch.inputs).logits
    return torch.log_softmax(logits[batch.scored_BT].float(), dim=-1)


def _add(result: Fidelity, name: str, clean_PV: Tensor, log_probs_PV: Tensor, targets_P: Tensor) -> None:
    ce_P = -log_probs_PV.gather(1, targets_P.unsqueeze(1)).double().squeeze(1)
    kl_parts = []
    for clean, other in zip(
        torch.split(clean_PV, _POSITIONS_AT_ONCE),
        torch.split(log_probs_PV, _POSITIONS_AT_ONCE),
        strict=True,
    ):
        kl_parts.append((clean.exp() * (clean - other)).sum(dim=1).double())
    kl_P = torch.cat(kl_parts)
    result.ce_sums[name] = result.ce_sums.get(name, 0.0) + float(ce_P.sum())
    result.kl_sums[name] = result.kl_sums.get(name, 0.0) + float(kl_P.sum())
    for measure, value_P in (("ce", ce_P), ("kl", kl_P)):
        result.parts.setdefault((measure, name), []).append(value_P.cpu().numpy())
