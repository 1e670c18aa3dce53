"""What the table ``document_firings`` adds to mining, rows written, with and without in turns.

Processor time is measured, which other processes on the machine change less than wall time.
"""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from catalog.slices import stage_files
from tasks.activations.caching.cache import cache_activations
from tasks.activations.caching.config import ActivationsConfig
from tasks.activations.corpora import CORPUS_SOURCES, CorpusTable, corpus_table
from tasks.activations.models.language_model import ModelConfig, load_language_model
from tasks.activations.reading.shards import ActivationSet
from tasks.dictionaries.base import Dictionary
from tasks.mining.config import MiningConfig
from tasks.mining.miner import mine
from tasks.support.stored import evidence_slice
from tests.benchmarks.bench_mining import HOOKPOINT, _dictionary

ROUNDS = 3
N_TOKENS = 440_000
"""As the demo."""
IDS = {"dictionary_id": "pico-a/topk-1", "activation_set_id": "pico-a-1"}


def main() -> str:
    """One table: whole documents of the demo, and the same text cut into documents of one paragraph."""
    model = load_language_model(ModelConfig(id="pico-a", source="embedded"), "cpu")
    whole = corpus_table(CORPUS_SOURCES["stdlib"].Config(source="stdlib"), 0.25)
    lines = [
        "| documents | tokens | rows | bytes a row | without, CPU s | with, CPU s | with / without, range |",
        "|--|--|--|--|--|--|--|",
    ]
    with TemporaryDirectory() as folder:
        for name, corpus in (("the demo's", whole), ("paragraphs", _paragraphs(whole))):
            config = ActivationsConfig(
                hookpoints=(HOOKPOINT,), context_length=128, n_tokens=N_TOKENS, eval_share=0.25
            )
            cached = cache_activations(model, corpus, config, Path(folder) / name).open(HOOKPOINT)
            lines.append(_measure(name, _dictionary(cached), cached, corpus, Path(folder)))
    return "\n".join(lines)


def _paragraphs(corpus: CorpusTable) -> CorpusTable:
    """About thirty times as many documents."""
    rows = [
        {**row, "document_id": f"{row['document_id']}#{number:05d}", "text": text, "n_chars": len(text)}
        for row in corpus.table.to_pylist()
        for number, text in enumerate(row["text"].split("\n\n"))
        if text.strip()
    ]
    table = pa.Table.from_pylist(rows, schema=corpus.table.schema).sort_by("document_id")
    return CorpusTable(
        table, corpus.source, corpus.revision, corpus.digest, corpus.n_duplicates, corpus.n_empty
    )


def _measure(
    name: str, dictionary: Dictionary, activation_set: ActivationSet, corpus: CorpusTable, folder: Path
) -> str:
    seconds: dict[bool, list[float]] = {False: [], True: []}
    sizes: list[tuple[int, int]] = []

    def work(keep: bool, round_: int) -> None:
        scratch = folder / f"{name}-{round_}-{keep}"
        config = MiningConfig(document_firings={"keep": keep})
        mined = mine(dictionary, activation_set, corpus.table, None, config, scratch)
        rows = {"features": mined.features, "examples": mined.examples, "document_firings": mined.by_document}
        for table, found in rows.items():
            files = stage_files(scratch, evidence_slice(table, IDS, found), "0" * 64)
            if table == "document_firings" and keep:
                sizes.append((sum(f.rows for f in files), sum(f.n_bytes for f in files)))

    for round_ in range(ROUNDS):
        for keep in (False, True) if round_ % 2 else (True, False):
            begin = time.process_time()
            work(keep, round_)
            seconds[keep].append(time.process_time() - begin)
    ratios = [a / b for a, b in zip(seconds[True], seconds[False], strict=True)]
    n_rows, n_bytes = sizes[0]
    return (
        f"| {name}, {corpus.table.num_rows:,} | {activation_set.n_valid_tokens():,} | {n_rows:,} "
        f"| {n_bytes / n_rows:.1f} | {statistics.median(seconds[False]):.1f} "
        f"| {statistics.median(seconds[True]):.1f} "
        f"| {statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}) |"
    )
