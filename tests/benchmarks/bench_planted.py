"""What the explainers without a language model find of planted features, by family, on code and on English.

The English texts are those of the folder that ``FEATLAS_SHARED_DATA`` names (``english.parquet``); without it
only the standard library is used.
"""

import os
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tasks.autointerp.explainers.lexical import LexicalConfig
from tasks.autointerp.explainers.single_token import SingleTokenConfig
from tasks.autointerp.planting.evidence import plant, planted_evidence
from tasks.autointerp.planting.passages import cut
from tasks.autointerp.runner import explain, score
from tasks.autointerp.scorers.predicate import PredicateConfig

IDS = {"dictionary_id": "planted", "activation_set_id": "planted"}
LIMITS = {"firing": 60, "random": 30, "neighbour": 30}
N_EACH, FOUND = 10, 0.9


def main() -> str:
    """A table for each text: balanced accuracy against near misses, and the share from 0.9 on."""
    return "\n\n".join(f"{name}\n\n{_table(texts)}" for name, texts in _texts().items())


def _texts() -> dict[str, list[tuple[str, str]]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    found = {"Standard library": [(p.name, p.read_text("utf-8")) for p in sorted(library.glob("*.py"))[:120]]}
    shared = os.environ.get("FEATLAS_SHARED_DATA")
    if shared:
        table = pq.read_table(Path(shared) / "english.parquet", columns=["doc_id", "text"])[:1500]
        found["English"] = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return found


def _table(texts: list[tuple[str, str]]) -> str:
    passages = cut(texts)
    planted = plant(passages, N_EACH)
    evidence = planted_evidence(passages, planted, LIMITS)
    found = {config.explainer: _scores(evidence, config) for config in (LexicalConfig(), SingleTokenConfig())}
    families: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(planted):
        families[one.family].append(index)
    lines = [f"| family | features | {' | '.join(found)} |", "|--|--|" + "--|" * len(found)]
    for family, members in families.items():
        cells = []
        for values in found.values():
            own = np.asarray([values.get(index) or 0.5 for index in members])
            cells.append(f"{own.mean():.3f} ({np.mean(own >= FOUND):.0%})".replace("%", " %"))
        lines.append(f"| {family} | {len(members)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _scores(evidence: Any, config: Any) -> dict[int, float | None]:
    with tempfile.TemporaryDirectory() as folder:
        explanations = explain(evidence, config, **IDS, scratch=Path(folder)).explanations
        rows = score(evidence, explanations, PredicateConfig(), **IDS, scratch=Path(folder)).scores
    wanted = ("balanced_accuracy", "neighbour")
    return {
        row["feature_index"]: row["value"]
        for row in rows.to_pylist()
        if (row["metric"], row["variant"]) == wanted
    }
