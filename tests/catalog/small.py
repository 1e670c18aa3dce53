"""Makers of small valid rows and a stage that commits to all kinds of tables at once.

Run as a program it is the process that the fault tests kill: it reads one case per line (root, generation,
fault) and forks for each, so that imports are paid once.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.ledger import Claim, Ledger
from catalog.schemas import COMMON_COLUMNS, TABLES
from catalog.slices import SliceWrite

NOW = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
DICTIONARY = "pico-a/blocks.2.resid_post/topk-x8-k32-s0-1f3a9c2e"
SET = "pico-a/blocks.2.resid_post-00000001"


def table(name: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows as a stage hands them in, in the types of the table."""
    own = [c.name for c in TABLES[name].columns if c.name not in COMMON_COLUMNS]
    given = [column for column in own if not rows or column in rows[0]]
    return pa.Table.from_pylist(list(rows), schema=pa.schema([TABLES[name].schema.field(c) for c in given]))


def run(run_id: str = "run-1", state: str = "completed", **other: Any) -> pa.Table:
    row = {
        "run_id": run_id,
        "flow": "nightly",
        "state": state,
        "started_at": NOW,
        "code_version": "0",
        "config_digest": "0",
        **other,
    }
    return table("runs", [row])


def dictionary(dictionary_id: str = DICTIONARY, **other: Any) -> pa.Table:
    hook = {"model_id": "pico-a", "hookpoint": "blocks.2.resid_post"}
    row = {
        "dictionary_id": dictionary_id,
        "alias": dictionary_id[:-9],
        "reads": [hook],
        "writes": [hook],
        "unit_type": "latent",
        "architecture": "topk",
        "d_in": 4,
        "d_sae": 8,
        "config": "{}",
        "weights_uri": "_blobs/dictionaries/d",
        "weights_digest": "0",
        "activation_set_id": SET,
        "origin": "trained",
        "verified": True,
        "created_at": NOW,
        **other,
    }
    return table("dictionaries", [row])


def models() -> list[SliceWrite]:
    """A model, a corpus and an activation set, so that nothing is an orphan."""
    model = {
        "model_id": "pico-a",
        "source": "embedded",
        "architecture": "llama",
        "n_layers": 2,
        "d_model": 4,
        "vocab_size": 16,
        "n_parameters": 100,
        "tokenizer_digest": "0",
        "weights_digest": "0",
    }
    corpus = {
        "corpus_id": "stdlib-0",
        "source": "stdlib",
        "digest": "0",
        "n_documents": 1,
        "n_eval_documents": 0,
        "n_chars": 3,
        "n_duplicates": 0,
    }
    activation_set = {
        "activation_set_id": SET,
        "model_id": "pico-a",
        "corpus_id": "stdlib-0",
        "hookpoint": "blocks.2.resid_post",
        "d_in": 4,
        "n_sequences": 1,
        "n_tokens": 8,
        "n_valid_tokens": 8,
        "context_length": 8,
        "packing": "block",
        "bos": "none",
        "dtype": "float32",
        "norm": 1.0,
        "n_nonfinite": 0,
        "uri": "_blobs/activations/a",
        "digest": "0",
        "n_bytes": 1,
    }
    return [
        SliceWrite("models", "pico-a", table("models", [model])),
        SliceWrite("corpora", "stdlib-0", table("corpora", [corpus])),
        SliceWrite("activation_sets", SET, table("activation_sets", [activation_set])),
    ]


def features(generation: int = 0, n: int = 4, dictionary_id: str = DICTIONARY) -> pa.Table:
    """``n`` features; ``n_tokens`` carries the generation."""
    rows = [
        {
            "dictionary_id": dictionary_id,
            "activation_set_id": SET,
            "feature_index": index,
            "status": "alive",
            "n_tokens": generation + 1,
            "density": 0.01,
            "max_activation": 2.0,
            "mean_activation": 1.0,
            "quantiles": [{"q": 0.5, "value": 1.0}],
            "histogram": [{"low": 0.0, "high": 2.0, "n": generation}],
            "decoder_norm": 1.0,
            "encoder_decoder_cosine": 0.5,
            "top_logits": [{"token_id": 1, "token": "a", "logit": 0.5}],
            "bottom_logits": [],
            "nearest_by_decoder": [{"feature_index": 1, "score": 0.5}],
            "nearest_by_coactivation": [],
            "top_tokens": ["a"],
        }
        for index in range(n)
    ]
    return table("features", rows)


def examples(
    n_features: int = 4, n_ranks: int = 2, dictionary_id: str = DICTIONARY, start: int = 0
) -> pa.Table:
    """``n_ranks`` top contexts of each feature."""
    rows = [
        {
            "dictionary_id": dictionary_id,
            "activation_set_id": SET,
            "feature_index": index,
            "band": "top",
            "rank": rank,
            "sequence_index": rank,
            "token_start": 0,
            "document_id": "doc",
            "char_start": 0,
            "char_end": 2,
            "token_ids": [1, 2],
            "tokens": ["a", "b"],
            "activations": [1.0, 2.0],
            "peak_position": 1,
            "max_activation": 2.0,
            "split": "explain",
        }
        for index in range(start, start + n_features)
        for rank in range(n_ranks)
    ]
    return table("examples", rows)


def explanations(generation: int = 0, n: int = 4, dictionary_id: str = DICTIONARY) -> pa.Table:
    rows = [
        {
            "explanation_id": f"e-{generation}-{index}",
            "dictionary_id": dictionary_id,
            "activation_set_id": SET,
            "feature_index": index,
            "explainer": "lexical",
            "prompt_digest": "0",
            "text": f"word {index} of generation {generation}",
            "status": "ok",
            "created_at": NOW,
        }
        for index in range(n)
    ]
    return table("explanations", rows)


def score(explanation: str, variant: str, value: float, **other: Any) -> dict[str, Any]:
    """A score of the first feature, above chance."""
    return {
        "explanation_id": explanation,
        "dictionary_id": DICTIONARY,
        "activation_set_id": SET,
        "feature_index": 0,
        "scorer": "predicate",
        "judge": "none",
        "metric": "balanced_accuracy",
        "variant": variant,
        "seed": 0,
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "chance": 0.5,
        "n": 40,
        "answered_share": 1.0,
        "negatives": variant,
        "created_at": NOW,
        "above_chance": True,
        "position": 0,
        **other,
    }


def claim(root: Path, generation: int = 0, **other: Any) -> Claim:
    """The unit of work of one generation; generations of one subject replace each other."""
    return Ledger(root).claim("mine", 1, DICTIONARY, {"generation": generation}, ["parent"], **other)


def writes(generation: int = 0) -> list[SliceWrite]:
    """Slices for partitioned, sharing, replaceable and append-only tables at once."""
    return [
        SliceWrite("features", DICTIONARY, features(generation)),
        SliceWrite("examples", DICTIONARY, examples()),
        SliceWrite("dictionaries", DICTIONARY, dictionary(d_sae=8 + generation)),
        SliceWrite("explanations", DICTIONARY, explanations(generation)),
    ]


def do_stage(root: Path, generation: int = 0, **other: Any) -> bool:
    """Claim, work, commit; returns whether anything was recomputed."""
    with claim(root, generation, **other) as mine:
        if mine.done is not None:
            return False
        folder = mine.scratch / "weights"
        folder.mkdir(exist_ok=True)
        (folder / "sae_weights.safetensors").write_text(str(generation))
        shards = mine.scratch / "shards"
        shards.mkdir(exist_ok=True)
        (shards / "0").write_text(str(generation))
        folders = {"_blobs/dictionaries/d": folder, "_blobs/activations/a": shards}
        everything = [*models(), *writes(generation)]
        return mine.commit(everything, facts={"generation": generation}, folders=folders).recomputed


def _serve() -> None:
    """One line per case: root, generation, fault. Answers with the exit status of the forked child."""
    for module in ("deltalake", "duckdb", "pyarrow.acero"):
        importlib.import_module(module)
    for line in sys.stdin:
        root, generation, fault = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            if fault:
                os.environ["FEATLAS_FAULT"] = fault
            status = 1
            try:
                do_stage(Path(root), int(generation))
                status = 0
            finally:
                os._exit(status)
        _, code = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(code), flush=True)


if __name__ == "__main__":
    _serve()
