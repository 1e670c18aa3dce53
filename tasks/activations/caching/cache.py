"""Caching: run a language model over a corpus once and store the activations of several hookpoints.

Everything happens in a working folder that survives a crash. A rerun continues at the first unfinished shard
and ends with the same bytes as an uninterrupted run.

    scratch/plan.json           the model, the corpus and the format of this caching run
    scratch/tokens/             packed tokens
    scratch/<hookpoint>/        shards, index.json; at the end tokens/ and meta.json: an activation set
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catalog.durable import TEMPORARY_PREFIX, make_folder, said_plainly
from catalog.errors import UserError
from catalog.faults import fault_point
from catalog.ids import slug
from tasks.activations.caching.background import Background
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.corpus_tokens import check_request, pack_corpus
from tasks.activations.caching.finished_set import finish_set
from tasks.activations.caching.forecast import forecast, refuse_above_free, tree_bytes, waiting_arrays
from tasks.activations.caching.massive import MassiveRule
from tasks.activations.caching.plan import CachingPlan, choose_formats, open_plan, save_plan
from tasks.activations.caching.shard_pass import ShardLayout, UnfinishedShards, write_shard
from tasks.activations.corpora import CorpusTable
from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model
from tasks.activations.reading.capture import hookpoint_width
from tasks.activations.reading.shard_files import ShardFormat, ShardRecord, is_intact, read_index, write_index
from tasks.activations.reading.shards import TOKENS, ActivationSet
from tasks.activations.text.chat import special_token_ids
from tasks.activations.text.packing import PackedTokens
from tasks.activations.text.token_files import CACHE_AGAIN, DamagedSet, corrupt_token_files
from tasks.common.cores import torch_threads
from tasks.common.progress import Progress, ProgressListener, silent

__all__ = ["ActivationsConfig", "CachedActivations", "cache_activations", "open_intact", "recompute_shards"]

NONFINITE_SHARE_LIMIT = 1e-3
"""As when a dictionary reads the set: more say that the number format is too small."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedActivations:
    """The result of caching: one folder per hookpoint, ready to be moved into the catalogue."""

    folders: dict[str, Path]
    """Activation set of each hookpoint, in the order of the configuration."""
    n_sequences: int
    n_tokens: int

    def open(self, hookpoint: str) -> ActivationSet:
        """The activation set of a hookpoint."""
        return ActivationSet.open(self.folders[hookpoint])


def cache_activations(
    language_model: LanguageModel,
    corpus: CorpusTable,
    config: ActivationsConfig,
    scratch: Path,
    listener: ProgressListener = silent,
    *,
    formats: Mapping[str, ShardFormat] | None = None,
) -> CachedActivations:
    """Cache the activations of every hookpoint of ``config`` on ``corpus`` in ``scratch``.

    ``formats`` are the number formats of what was cached before, for documents that a corpus gained; these
    may be few, so that a split or all tokens are missing.

    Raises:
        UserError: when the request is invalid (see `check_request`, `pack_corpus`), does not fit on disk or
            in memory, finds files of another request, or too many activations are not finite.
    """
    check_request(language_model.spec, config)
    with said_plainly("cache activations in", scratch):
        make_folder(scratch)
        _sweep(scratch)
        packed, plan = _prepare(language_model, corpus, config, scratch, formats, listener)
        folders = {name: scratch / slug(name) for name in config.hookpoints}
        for folder in folders.values():
            make_folder(folder)
        records = _write_missing(language_model, packed, config, folders, plan, listener)
        for name, folder in folders.items():
            fault_point("cache.finish")
            facts = set_facts(language_model, corpus, config)
            finish_set(folder, scratch / TOKENS, packed, records[name], name, plan, facts)
    return CachedActivations(folders, packed.n_sequences, packed.n_tokens)


def open_intact(folder: Path, model: ModelConfig, device: str = "auto") -> ActivationSet:
    """Open a finished set; the model is loaded only if shards are damaged, which are then recomputed.

    Raises:
        UserError: when the folder holds no set, or it cannot be repaired (see `recompute_shards`).
    """
    activation_set = ActivationSet.open(folder)
    for name in corrupt_token_files(folder / TOKENS):
        raise DamagedSet(f"{folder / TOKENS / name} is damaged: {CACHE_AGAIN}")
    damaged = activation_set.corrupt_shards()
    if damaged:
        logger.warning("%s: recomputing damaged shards %s", folder, damaged)
        recompute_shards(activation_set, load_language_model(model, device))
    return activation_set


def recompute_shards(activation_set: ActivationSet, language_model: LanguageModel) -> list[int]:
    """Recompute the damaged shards of a finished set from its own tokens; return their numbers.

    Raises:
        UserError: when the model or tokenizer differs, the tokens are damaged too, or the new bytes differ
            from the recorded ones (another device, other libraries).
    """
    damaged = activation_set.corrupt_shards()
    if not damaged:
        return []
    folder, meta = activation_set.folder, activation_set.meta
    activation_set.check_tokenizer(language_model.spec.tokenizer_digest)
    if meta["weights_digest"] != language_model.spec.weights_digest:
        raise UserError(f"the weights of model {meta['model_id']!r} changed since {folder} was cached")
    if not set(activation_set.shards).issuperset(damaged):
        raise UserError(f"the index of {folder} is damaged: force the caching stage")
    layout = ShardLayout(
        activation_set.tokens.parts, meta["sequences_per_shard"], meta["config"]["batch_sequences"]
    )
    name = meta["hookpoint"]
    formats, widths = {name: meta["dtype"]}, {name: meta["d_in"]}
    for number in damaged:
        records: dict[str, ShardRecord] = {}
        n_threads = meta.get("n_threads")  # sets of before 0.2 do not record it
        with torch_threads(n_threads), Background(waiting_arrays(1)) as background:
            shard = write_shard(
                language_model,
                activation_set.tokens,
                layout,
                number,
                {name: folder},
                formats,
                widths,
                background,
            )
            background.run(partial(_finish_into, records, shard))
        if records[name].sha256 != activation_set.shards[number].sha256:
            raise UserError(
                f"shard {number} of {folder} was recomputed, but not to the same bytes (another device or "
                "other libraries than when it was cached): force the caching stage"
            )
    return damaged


def _finish_into(records: dict[str, ShardRecord], shard: UnfinishedShards) -> None:
    records.update(shard.finish())


def _prepare(
    language_model: LanguageModel,
    corpus: CorpusTable,
    config: ActivationsConfig,
    scratch: Path,
    formats: Mapping[str, ShardFormat] | None,
    listener: ProgressListener,
) -> tuple[PackedTokens, CachingPlan]:
    """Tokens and plan, from an earlier attempt if there was one; refuse what will not fit."""
    spec = language_model.spec
    plan = open_plan(scratch, spec, corpus.digest, config)
    packed = pack_corpus(
        language_model,
        corpus.table,
        config,
        scratch / TOKENS,
        listener,
        chat_template=corpus.chat_template,
        may_lack_tokens=formats is not None,
    )
    if plan is None:
        widths = {name: hookpoint_width(language_model, name) for name in config.hookpoints}
        chosen = formats or choose_formats(language_model, packed, config)
        plan = save_plan(scratch, spec, corpus.digest, config, chosen, widths)
    if packed.n_sequences == 0:
        return packed, plan
    need = forecast(language_model, packed, plan.widths, plan.dtypes, config.batch_sequences)
    refuse_above_free(need, language_model, scratch, tree_bytes(scratch))
    return packed, plan


def _write_missing(
    language_model: LanguageModel,
    packed: PackedTokens,
    config: ActivationsConfig,
    folders: Mapping[str, Path],
    plan: CachingPlan,
    listener: ProgressListener,
) -> dict[str, dict[int, ShardRecord]]:
    """Write every missing shard; return the records of all, by hookpoint and number."""
    rule = MassiveRule.of(config.sink_norm_multiple)
    layout = ShardLayout(packed.parts, plan.sequences_per_shard, config.batch_sequences, rule)
    done = {name: _intact_shards(folder) for name, folder in folders.items()}
    n_valid = int(np.count_nonzero(packed.valid))
    n_places = packed.n_sequences * packed.context_length

    def land(number: int, shard: UnfinishedShards) -> None:  # on the writer thread
        for name, record in shard.finish().items():
            done[name][number] = record
            _refuse_nonfinite(name, done[name], n_valid, plan)
            write_index(folders[name], done[name])

    def told(n_sequences: int) -> None:
        listener(Progress("tokens cached", n_sequences * packed.context_length, n_places))

    with Background(waiting_arrays(len(folders))) as background:
        for number in range(layout.n_shards):
            missing = {name: folder for name, folder in folders.items() if number not in done[name]}
            if missing:
                shard = write_shard(
                    language_model,
                    packed,
                    layout,
                    number,
                    missing,
                    plan.dtypes,
                    plan.widths,
                    background,
                    told,
                )
                background.run(partial(land, number, shard))
            else:
                told(layout.bounds(number)[1])
    return done


def _sweep(scratch: Path) -> None:
    """Remove unfinished files of an attempt that was killed."""
    for path in scratch.rglob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


def set_facts(
    language_model: LanguageModel, corpus: CorpusTable, config: ActivationsConfig
) -> dict[str, Any]:
    """The origin of an activation set, for its ``meta.json``."""
    spec = language_model.spec
    return {
        "model_id": spec.model_id,
        "weights_digest": spec.weights_digest,
        "tokenizer_digest": spec.tokenizer_digest,
        "corpus_digest": corpus.digest,
        "chat_template": corpus.chat_template,
        "special_token_ids": special_token_ids(language_model.tokenizer, corpus.chat_template is not None),
        "context_length": config.context_length,
        "config": config.canonical(),
        "n_threads": torch.get_num_threads(),
    }


def _intact_shards(folder: Path) -> dict[int, ShardRecord]:
    """Shards that an earlier attempt finished; damaged ones are recomputed."""
    try:
        records = read_index(folder)
    except DamagedSet as error:
        logger.warning("%s: computing all shards again, %s", folder.name, error)
        return {}
    damaged = [number for number, record in records.items() if not is_intact(folder, record)]
    if damaged:
        logger.warning("%s: recomputing damaged shards %s", folder.name, damaged)
    return {number: record for number, record in records.items() if number not in damaged}


def _refuse_nonfinite(
    hookpoint: str, records: Mapping[int, ShardRecord], n_valid: int, plan: CachingPlan
) -> None:
    n_nonfinite = sum(len(record.nonfinite) for record in records.values())
    if n_nonfinite <= NONFINITE_SHARE_LIMIT * n_valid:
        return
    remedy = "run the model in another number format"
    if plan.dtypes[hookpoint] == "float16":
        remedy = "set activations.dtype: float32, or run the model in another number format"
    raise UserError(
        f"hookpoint {hookpoint!r}: {n_nonfinite} of {n_valid} tokens have NaN or infinite activations, "
        f"more than 0.1 %: {remedy}"
    )
