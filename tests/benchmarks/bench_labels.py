"""Lexical labels of the dictionaries of a catalogue: how short, how good on held-out documents, how fast.

``FEATLAS_CATALOG`` names the catalogue (``./catalogue``, as of ``make demo``); 256 features of each
dictionary are explained and scored. ``READ=N`` prints the labels of N features with contexts to judge.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.compute as pc

from catalog import connect
from tasks.autointerp.explainers.lexical import LexicalConfig
from tasks.autointerp.records import FeatureEvidence, read_evidence
from tasks.autointerp.runner import explain, score
from tasks.autointerp.scorer import NO_CLAIM
from tasks.autointerp.scorers.predicate import PredicateConfig
from tasks.support.evidence import document_labels, example_blocks, stored_rows

N_FEATURES = 256
HEAD = (
    "| dictionary | random | neighbours | above chance | no rule | rules above chance | characters | ms |\n"
    "|--|--|--|--|--|--|--|--|\n"
)


def main() -> str:
    """One line per dictionary."""
    root = Path(os.environ.get("FEATLAS_CATALOG", "catalogue"))
    with connect(root) as connection:
        pairs = connection.sql("select distinct dictionary_id, activation_set_id from features order by all")
        sets = pairs.fetchall()
        (corpus,) = connection.sql("select min(corpus_id) from documents").fetchall()[0]
    labels = document_labels(root, corpus)
    lines = []
    for dictionary_id, activation_set_id in sets:
        ids = {"dictionary_id": dictionary_id, "activation_set_id": activation_set_id}
        features = stored_rows(root, "features", **ids)
        features = features.filter(pc.less(features["feature_index"], N_FEATURES))
        lines.append(_measured(ids, list(read_evidence(features, example_blocks(root, **ids), labels))))
    return HEAD + "\n".join(lines)


def _measured(ids: dict[str, Any], evidence: list[FeatureEvidence]) -> str:
    with TemporaryDirectory() as scratch:
        start = time.process_time()
        explained = explain(iter(evidence), LexicalConfig(), scratch=Path(scratch), **ids)
        seconds = time.process_time() - start
        scored = score(
            iter(evidence), explained.explanations, PredicateConfig(), scratch=Path(scratch), **ids
        )
    rows = {row["feature_index"]: row for row in explained.explanations.to_pylist() if row["text"]}
    values: dict[str, dict[int, dict[str, Any]]] = {}
    for row in scored.scores.to_pylist():
        if row["metric"] == "balanced_accuracy" and row["value"] is not None:
            values.setdefault(row["variant"], {})[row["feature_index"]] = row
    claims = {index for index, row in rows.items() if row["predicate"] != NO_CLAIM}
    mixed = values["mixed"]
    _read(evidence, rows, int(os.environ.get("READ", "0")))
    means = [np.mean([row["value"] for row in values[kind].values()]) for kind in ("random", "neighbour")]
    above = [bool(row["above_chance"]) for row in mixed.values()]
    above_of_rules = [bool(row["above_chance"]) for index, row in mixed.items() if index in claims]
    return (
        f"| {ids['dictionary_id']} | {means[0]:.3f} | {means[1]:.3f} | {np.mean(above):.1%} "
        f"| {1 - len(claims) / len(rows):.1%} | {np.mean(above_of_rules):.1%} "
        f"| {np.mean([len(row['text']) for row in rows.values()]):.0f} | {1000 * seconds / len(rows):.1f} |"
    )


def _read(evidence: list[FeatureEvidence], rows: dict[int, dict[str, Any]], n: int) -> None:
    """Print labels with the strongest held-out contexts of each band; firing tokens are marked."""
    for place in sorted(np.random.default_rng(0).permutation(len(evidence))[:n].tolist()):
        one = evidence[place]
        print(f"#{one.feature_index} {rows[one.feature_index]['text']}")
        for band in one.firing_bands:
            for row in one.rows("score", (band,))[:1]:
                example = one.example(int(row))
                shown = [
                    f"«{token}»" if value > 0.3 * example.max_activation else token
                    for token, value in zip(example.tokens, example.activations, strict=True)
                ]
                print(f"    {band} {''.join(shown)!r}")
