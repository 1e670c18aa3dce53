"""The plan of a caching run: decided once, stored in the working folder, checked by every later attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catalog.durable import replace_file, to_json
from catalog.errors import UserError
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.forecast import MEBIBYTE
from tasks.activations.caching.precision import RangeProbe
from tasks.activations.models.language_model import LanguageModel, ModelSpec
from tasks.activations.reading.capture import capture
from tasks.activations.reading.shard_files import ShardFormat
from tasks.activations.text.inputs import model_inputs
from tasks.activations.text.packing import PackedTokens
from tasks.activations.text.token_files import DamagedSet, read_object

PLAN = "plan.json"
PROBED_BATCHES = 4
PROBED_SHARE = 0.03
"""Share of a set that the probe runs through the model at most, but always one sequence."""


@dataclass(frozen=True, slots=True)
class CachingPlan:
    """Number format and width of each hookpoint, and the size of shards."""

    dtypes: dict[str, ShardFormat]
    widths: dict[str, int]
    sequences_per_shard: int


def open_plan(
    scratch: Path, spec: ModelSpec, corpus_digest: str, config: ActivationsConfig
) -> CachingPlan | None:
    """The plan of an earlier attempt; None for the first.

    Raises:
        UserError: when that attempt used another tokenizer, model, corpus or configuration.
    """
    if not (scratch / PLAN).is_file():
        return None
    start_again = f"remove the folder {scratch} to start again"
    stored = read_object(scratch / PLAN, start_again)
    premises = stored.get("premises")
    if not isinstance(premises, dict) or not {"dtypes", "widths", "sequences_per_shard"} <= set(stored):
        raise DamagedSet(f"{scratch / PLAN} is damaged: {start_again}")
    for what, value in _premises(spec, corpus_digest, config).items():
        if premises.get(what) != value:
            raise UserError(
                f"the {what} changed since caching started in {scratch}: restore it, or remove that folder "
                "to start again"
            )
    return CachingPlan(stored["dtypes"], stored["widths"], stored["sequences_per_shard"])


def save_plan(
    scratch: Path,
    spec: ModelSpec,
    corpus_digest: str,
    config: ActivationsConfig,
    dtypes: Mapping[str, ShardFormat],
    widths: Mapping[str, int],
) -> CachingPlan:
    """Decide the size of shards and store the plan."""
    widest = max(np.dtype(dtypes[name]).itemsize * widths[name] for name in config.hookpoints)
    n_fitting = int(config.shard_mebibytes * MEBIBYTE) // (widest * config.context_length)
    per_shard = max(1, n_fitting // config.batch_sequences) * config.batch_sequences
    plan = CachingPlan(dict(dtypes), dict(widths), per_shard)
    stored = {
        "premises": _premises(spec, corpus_digest, config),
        "dtypes": plan.dtypes,
        "widths": plan.widths,
        "sequences_per_shard": per_shard,
    }
    replace_file(scratch / PLAN, to_json(stored), "cache.plan")
    return plan


def choose_formats(
    language_model: LanguageModel, packed: PackedTokens, config: ActivationsConfig
) -> dict[str, ShardFormat]:
    """Number format of each hookpoint: as configured, or by a probe of batches spread over the set."""
    if config.dtype != "auto":
        return dict.fromkeys(config.hookpoints, config.dtype)
    probes = {name: RangeProbe() for name in config.hookpoints}
    for rows in probed_rows(packed.n_sequences, config.batch_sequences):
        _probe_batch(language_model, packed, rows, probes)
    return {name: probe.choose() for name, probe in probes.items()}


def probed_rows(n_sequences: int, batch_sequences: int) -> list[slice]:
    """Sequences for the probe, spread over the set: up to four batches, 3 % of the set, at least one."""
    n_probed = max(1, int(PROBED_SHARE * n_sequences))
    n_batches = min(PROBED_BATCHES, n_probed)
    size = min(batch_sequences, n_probed // n_batches)
    starts = np.linspace(0, n_sequences - size, n_batches).astype(int)
    return [slice(start, start + size) for start in starts.tolist()]


def _probe_batch(
    language_model: LanguageModel, packed: PackedTokens, rows: slice, probes: Mapping[str, RangeProbe]
) -> None:
    captured = capture(language_model, list(probes), model_inputs(language_model, packed, rows))
    valid_BT = torch.from_numpy(np.array(packed.valid[rows])).to(language_model.device)
    for name, probe in probes.items():
        for x_TD, valid_T in zip(captured.pop(name), valid_BT, strict=True):
            probe.add(x_TD[valid_T])


def _premises(spec: ModelSpec, corpus_digest: str, config: ActivationsConfig) -> dict[str, Any]:
    return {
        "tokenizer": spec.tokenizer_digest,
        "model": spec.weights_digest,
        "corpus": corpus_digest,
        "configuration": config.canonical(),
    }
