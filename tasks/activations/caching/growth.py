"""Caching for a corpus that grows: only new documents run through the model.

Each generation of documents is packed by itself and is a part of the set. Sequences, positions and shards of
earlier parts therefore never change, and a set with one more part shares their files.

    scratch/generation-2/     a caching run of its own, see ``cache.py``
    scratch/tokens/           token files of all parts
    scratch/<hookpoint>/      the set: shards of all parts
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import cast

import numpy as np

from catalog.durable import make_folder, said_plainly
from catalog.faults import fault_point
from catalog.ids import slug
from tasks.activations.caching.cache import CachedActivations, cache_activations, set_facts
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.caching.finished_set import finish_set
from tasks.activations.caching.plan import CachingPlan
from tasks.activations.corpora import CorpusTable
from tasks.activations.corpora.growth import each_generation
from tasks.activations.models.language_model import LanguageModel
from tasks.activations.reading.shard_files import ShardFormat, ShardRecord, shard_name
from tasks.activations.reading.shards import META, TOKENS, ActivationSet
from tasks.activations.text.packing import ARRAYS, PADDING, PackedTokens
from tasks.activations.text.token_files import read_token_record, write_tokens
from tasks.common.progress import ProgressListener, silent
from tasks.common.shared_files import share_file


def cache_generations(
    language_model: LanguageModel,
    corpus: CorpusTable,
    earlier: Mapping[str, Path],
    config: ActivationsConfig,
    scratch: Path,
    listener: ProgressListener = silent,
) -> CachedActivations:
    """Cache the generations that ``earlier`` lacks, and put all of them together.

    Args:
        language_model: The model.
        corpus: A corpus that grows, with its generations.
        earlier: Sets of the first generations by hookpoint, at least of the first; empty for none.
        config: As for `cache_activations`; the budget of tokens holds for each generation.
        scratch: Working folder.
        listener: Gets the number of tokens cached.

    Returns:
        Sets equal to those of one run over all generations, whatever ``earlier`` holds.
    """
    generations = list(each_generation(corpus))
    if len(generations) == 1:
        return cache_activations(language_model, generations[0], config, scratch, listener)
    sets = {name: [ActivationSet.open(earlier[name])] for name in config.hookpoints if earlier}
    n_done = len(sets[config.hookpoints[0]][0].tokens.parts) if sets else 0
    for number, generation in enumerate(generations[n_done:], start=n_done + 1):
        formats = {name: _format(parts[0]) for name, parts in sets.items()} or None
        folder = scratch / f"generation-{number}"
        cached = cache_activations(language_model, generation, config, folder, listener, formats=formats)
        for name in config.hookpoints:
            sets.setdefault(name, []).append(cached.open(name))
    n_documents = [generation.table.num_rows for generation in generations]
    firsts = [0, *accumulate(n_documents)]
    offsets = [0, *firsts[n_done:-1]] if n_done else firsts[:-1]
    return _together(language_model, corpus, sets, offsets, config, scratch)


def _format(first: ActivationSet) -> ShardFormat:
    return cast(ShardFormat, first.meta["dtype"])


def _together(
    language_model: LanguageModel,
    corpus: CorpusTable,
    sets: Mapping[str, Sequence[ActivationSet]],
    offsets: Sequence[int],
    config: ActivationsConfig,
    scratch: Path,
) -> CachedActivations:
    """One set per hookpoint from the sets of successive parts; ``offsets`` are their first documents."""
    folders = {name: scratch / slug(name) for name in config.hookpoints}
    with said_plainly("cache activations in", scratch):
        packed = _joined_tokens(next(iter(sets.values())), offsets, scratch / TOKENS)
        for name, parts in sets.items():
            if not (folders[name] / META).is_file():
                shutil.rmtree(folders[name], ignore_errors=True)
                make_folder(folders[name])
                records = _joined_shards(folders[name], parts)
                fault_point("cache.together")
                valid = np.concatenate([np.asarray(part.tokens.valid) for part in parts])
                plan = _plan(name, parts[0])
                facts = set_facts(language_model, corpus, config)
                finish_set(
                    folders[name], scratch / TOKENS, replace(packed, valid=valid), records, name, plan, facts
                )
    return CachedActivations(folders, packed.n_sequences, packed.n_tokens)


def _plan(hookpoint: str, first: ActivationSet) -> CachingPlan:
    meta = first.meta
    return CachingPlan({hookpoint: _format(first)}, {hookpoint: first.d_in}, meta["sequences_per_shard"])


def _joined_tokens(parts: Sequence[ActivationSet], offsets: Sequence[int], folder: Path) -> PackedTokens:
    arrays = {
        name: np.concatenate([np.asarray(getattr(part.tokens, name)) for part in parts]) for name in ARRAYS
    }
    sizes = [part.n_sequences for part in parts]
    offset_S = np.repeat(np.asarray(offsets, dtype=np.int32), sizes)
    document_ST = arrays["document_index"]
    arrays["document_index"] = np.where(document_ST == PADDING, PADDING, document_ST + offset_S[:, None])
    first, *later = [size for part in parts for size in part.tokens.parts]
    packed = PackedTokens(**arrays, n_train=first[0], later_parts=tuple(later))
    record = read_token_record(parts[0].folder / TOKENS)
    assert record is not None
    write_tokens(folder, packed, {"tokenizer_digest": record["tokenizer_digest"]})
    return packed


def _joined_shards(folder: Path, parts: Sequence[ActivationSet]) -> dict[int, ShardRecord]:
    """Share the shards of all parts, numbered in one sequence."""
    records: dict[int, ShardRecord] = {}
    first_sequence = 0
    for part in parts:
        for _, record in sorted(part.shards.items()):
            number = len(records)
            name = shard_name(number)
            share_file(part.folder / record.file, folder / name)
            records[number] = replace(
                record, number=number, file=name, first_sequence=first_sequence + record.first_sequence
            )
        first_sequence += part.n_sequences
    return records
