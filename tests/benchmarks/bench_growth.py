"""What a night on which a corpus gains one percent of its documents costs, against the run before it.

Processor time is measured, of this process and of those that it starts, which other processes on the machine
change less than wall time. The model is loaded before, so that both runs find it in the cache of the system.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from flows import spine
from flows.config import PipelineConfig
from flows.reports import Run
from tasks.activations.models.language_model import ModelConfig, load_language_model
from tasks.common.progress import StageEvent
from tasks.support.policies import StageContext, stage_listener

VARIABLE = "FEATLAS_ENGLISH"
"""Names a Parquet file with the columns ``doc_id`` and ``text``."""
N_DOCUMENTS = (2_970, 3_000)
HOOKPOINT = "blocks.2.resid_post"
ENDS = ("mine_examples", "evaluate_dictionary")
TOPK = {"architecture": "topk", "expansion_factor": 8, "k": 16, "lr": 0.004, "n_tokens": 2_000_000}


def main() -> str:
    """One table: processor seconds of each stage on the first night and on the second."""
    if VARIABLE not in os.environ:
        return f"set {VARIABLE} to a Parquet file with the columns doc_id and text"
    load_language_model(ModelConfig(id="pico-a", source="embedded"), "cpu")
    with TemporaryDirectory() as folder:
        nights = [_night(Path(folder), n) for n in N_DOCUMENTS]
    lines = [
        f"| stage | {N_DOCUMENTS[0]:,} documents, CPU s | the 1 % that came, CPU s | share |",
        "|--|--|--|--|",
    ]
    for stage in (*nights[0], "all"):
        full, grown = (sum(one.values()) if stage == "all" else one.get(stage, 0.0) for one in nights)
        lines.append(f"| {stage} | {full:.1f} | {grown:.2f} | {grown / full if full else 0:.1%} |")
    return "\n".join(lines)


def _night(folder: Path, n_documents: int) -> dict[str, float]:
    """Processor seconds by stage, what lies between stages included."""
    rows = pq.read_table(os.environ[VARIABLE])
    order = sorted(range(rows.num_rows), key=lambda row: hash_of(rows["doc_id"][row].as_py()))
    pq.write_table(rows.take(order[:n_documents]), folder / "texts.parquet")
    context = StageContext(folder / "catalogue", f"night-{n_documents}", device="cpu")
    run = Run("bench", "growth", context, datetime.now(UTC), "0")
    with _listening() as spent:
        spine.run_stages(run, pipeline(folder), ENDS)
    if run.failures:
        raise RuntimeError(run.failures)
    return spent


def hash_of(name: str) -> str:
    """A fixed random order of documents."""
    return hashlib.sha256(name.encode()).hexdigest()


def pipeline(folder: Path) -> PipelineConfig:
    """As the demo: one model, one dictionary."""
    source = {"source": "parquet", "path": str(folder / "texts.parquet"), "text_column": "text"}
    values = {
        "name": "growth",
        "corpus": {**source, "id_column": "doc_id", "grows": True},
        "models": [{"id": "pico-a", "source": "embedded"}],
        "activations": {
            "hookpoints": [HOOKPOINT],
            "context_length": 128,
            "n_tokens": 10_000_000,
            "eval_share": 0.1,
        },
        "dictionaries": [TOPK],
        "mining": {"n_top": 30, "n_per_band": 20, "n_random": 30, "n_neighbour": 30},
    }
    return PipelineConfig.model_validate(values)


@contextmanager
def _listening() -> Iterator[dict[str, float]]:
    spent: dict[str, float] = {}
    last = _processor_seconds()

    def listen(event: StageEvent) -> None:
        nonlocal last
        if event.state in ("computed", "found"):
            now = _processor_seconds()
            spent[event.stage] = spent.get(event.stage, 0.0) + now - last
            last = now

    token = stage_listener.set(listen)
    try:
        yield spent
    finally:
        stage_listener.reset(token)


def _processor_seconds() -> float:
    return sum(os.times()[:4])
