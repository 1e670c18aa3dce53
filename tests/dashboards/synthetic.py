"""A small catalogue written through the real ledger: two models, their dictionaries, and hostile text.

Every text that a page draws occurs once as markup, as a Markdown image, and with hidden characters.
"""

import hashlib
import json
import keyword
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from catalog.ids import stage_fingerprint, tagged_id
from catalog.ledger import Ledger
from catalog.rows import with_constants
from catalog.schemas import TABLES
from catalog.store import SliceWrite, publish_rows
from tests.dashboards.feature_columns import LOGITS, activation_bins
from tests.dashboards.model_rows import model_row
from tests.dashboards.observed import commit_floors, commit_measures, commit_observation, commit_shifts

RUN, RUN_BEFORE = "5f0c6a9e-run-of-tonight", "1b7d-run-of-yesterday"
NIGHT = datetime(2026, 11, 20, 2, 14, tzinfo=UTC)
CORPUS = "synthetic-0a1b2c3d"
IMPORTED = "pico-b"
WEAK = 145  # its partner is its best and still too unlike
MODELS = ("pico-a", "pico-b")
HOOKPOINT = "blocks.2.resid_post"
N_FEATURES = 160
PAYLOADS = (
    "<script>window.__pwned = 1</script>",
    "<img src=x onerror='window.__pwned = 1'>",
    "![beacon](http://evil.example/beacon.png)",
    "[click](javascript:window.__pwned=1)",
    '<iframe srcdoc="<script>parent.__pwned=1</script>"></iframe>',
    "\u202egnp.exe",
    "zero\u200bwidth\ufeff",
    "👩‍👩‍👧 שלום مرحبا",
    "tab\there\r\nbell\x07",
)
WORDS = tuple(keyword.kwlist[:22])
LABELS = (
    "the token “self” as the first parameter of a method",
    "a closing bracket at the end of a call",
    "names of exceptions after “raise”",
    "numbers inside a slice or index",
    "the word “return” at the start of a line",
    "docstrings: the first word after three quotes",
    "keyword arguments with a default of None",
    "parts of a file path",
)


def columns(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a stage hands them in: the table's own columns, nulls where a row is silent."""
    fields = [TABLES[table].schema.field(c.name) for c in TABLES[table].columns[:-3]]
    given = {name for row in rows for name in row}
    return pa.Table.from_pylist(rows, schema=pa.schema([f for f in fields if f.name in given]))


def document_text(number: int) -> str:
    """Text of one document: words, and one of the payloads."""
    generator = random.Random(number)
    words = [generator.choice(WORDS) for _ in range(90)]
    words[40] = PAYLOADS[number % len(PAYLOADS)]
    return " ".join(words)


def dictionary_of(model: str) -> str:
    """Id of the dictionary of a model."""
    alias = f"{model}/{HOOKPOINT}/topk-x8-k16-s0"
    return tagged_id(alias, hashlib.sha256(alias.encode()).hexdigest())


def activation_set_of(model: str) -> str:
    """Id of the activation set of a model."""
    return f"{model}/{HOOKPOINT}-00112233"


def feature_row(index: int) -> dict[str, Any]:
    """Statistics of one feature; number 7 never fired, number 11 is dense."""
    generator = random.Random(index)
    status = "unseen" if index == 7 else "dense" if index == 11 else "alive"
    density = 0.0 if index == 7 else 0.23 if index == 11 else 10 ** generator.uniform(-4.5, -1.5)
    largest = None if index == 7 else 2 + 10 * generator.random()
    logits = [
        {"token_id": i, "token": PAYLOADS[i % 9] if i == 3 else f" {WORDS[i]}", "logit": 3 - 0.2 * i}
        for i in range(10)
    ]
    return {
        "feature_index": index,
        "status": status,
        "n_tokens": int(density * 400_000),
        "density": density,
        "max_activation": largest,
        "mean_activation": None if largest is None else largest / 3,
        "quantiles": []
        if largest is None
        else [{"q": q, "value": largest * q} for q in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)],
        "histogram": [] if largest is None else activation_bins(largest),
        "decoder_norm": 1.0,
        "encoder_decoder_cosine": 0.71,
        "top_logits": logits,
        "bottom_logits": [{**logit, "logit": -logit["logit"]} for logit in logits],
        **LOGITS,
        "nearest_by_decoder": [
            {"feature_index": (index + i) % N_FEATURES, "score": 0.8 - i / 10} for i in range(1, 6)
        ],
        "nearest_by_coactivation": [
            {"feature_index": (index + 2 * i) % N_FEATURES, "score": 0.5 - i / 20} for i in range(1, 6)
        ],
        "top_tokens": [] if index == 7 else [f" {WORDS[index % 9]}", PAYLOADS[index % 9], "\n"],
    }


def example_rows(index: int, n_tokens: int = 48) -> Iterator[dict[str, Any]]:
    """Contexts of one feature in every band; some tokens share one character."""
    largest = feature_row(index)["max_activation"]
    if largest is None:
        return
    for band, share in (("neighbour", 0), ("q1", 0.9), ("q3", 0.5), ("q5", 0.1), ("random", 0), ("top", 1.0)):
        for rank in range(12 if band == "top" else 4):
            number = (index * 3 + rank + len(band)) % 40
            text = document_text(number)
            pieces = [piece for word in text.split(" ") for piece in (word, " ")][:n_tokens]
            pieces[5], pieces[6] = pieces[5] + pieces[6], ""
            values = [0.0] * n_tokens
            if share:
                values[20] = largest * share * (1 - rank / 40)
                values[21], values[5], values[6] = values[20] / 2, values[20] / 5, values[20] / 4
            yield {
                "feature_index": index,
                "band": band,
                "rank": rank,
                "sequence_index": number,
                "token_start": 0,
                "document_id": f"doc-{number}",
                "char_start": 0,
                "char_end": sum(len(piece) for piece in pieces),
                "token_ids": list(range(100, 100 + n_tokens)),
                "tokens": pieces,
                "activations": values,
                "peak_position": 20 if share else 0,
                "max_activation": max(values),
                "split": "explain" if number % 2 else "score",
            }


def label_of(index: int) -> str:
    """Text of an explanation; every ninth carries a payload."""
    return PAYLOADS[index % 9] if index % 9 == 4 else LABELS[index % len(LABELS)]


def explanation_rows(model: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Explanations, scores and judgements of a dictionary: good ones, one by chance, one refused."""
    ids = {"dictionary_id": dictionary_of(model), "activation_set_id": activation_set_of(model)}
    explained, scored, judged = [], [], []
    for index in range(N_FEATURES):
        if index in (7, 12):
            continue
        named = f"{model}-{index}"
        generator = random.Random(named)
        about = {**ids, "feature_index": index, "prompt_digest": "0" * 64}
        explained.append(
            {
                **about,
                "explanation_id": named,
                "explainer": "lexical",
                "model": None,
                "text": label_of(index),
                "predicate": "{}",
                "token_shares": [
                    {"token": PAYLOADS[index % 9], "share": 0.62},
                    {"token": f" {WORDS[index % 9]}", "share": 0.21},
                ],
                "status": "ok",
                "error": None,
                "call_id": None,
                "created_at": NIGHT,
            }
        )
        if index % 5 == 0:
            explained.append(
                {
                    **about,
                    "explanation_id": f"{named}-llm",
                    "explainer": "contexts",
                    "model": "judge-7b",
                    "text": None,
                    "predicate": None,
                    "status": "refused",
                    "error": "the endpoint declined <b>to</b> answer",
                    "call_id": None,
                    "created_at": NIGHT - timedelta(days=1),
                }
            )
        value = 0.5 if index % 10 == 3 else generator.uniform(0.62, 0.99)
        measured = {
            "value": value,
            "ci_low": max(0.0, value - 0.09),
            "ci_high": min(1.0, value + 0.07),
            "chance": 0.51,
            "n": 40,
            "answered_share": 1.0,
            "created_at": NIGHT,
        }
        judge = {"scorer": "predicate", "judge": "none", "metric": "balanced_accuracy", "seed": 0}
        scored += [
            {**ids, **judge, **measured, "explanation_id": named, "feature_index": index}
            | {"variant": negatives, "negatives": negatives}
            for negatives in ("random", "neighbour")
        ]
        judged += [
            {
                "explanation_id": named,
                "scorer": "predicate",
                "judge": "none",
                "seed": 0,
                "item": item,
                "dictionary_id": ids["dictionary_id"],
                "activation_set_id": ids["activation_set_id"],
                "feature_index": index,
                "band": "top" if item % 2 else "neighbour",
                "rank": item // 2,
                "truth": bool(item % 2),
                "answer": None if item == 9 else bool(item % 2) != (item == 4),
                "probability": None,
                "call_id": None,
            }
            for item in range(10)
        ]
    return explained, scored, judged


def match_rows() -> list[dict[str, Any]]:
    """Every fifth feature has a mutual partner in the other dictionary."""
    a, b = (dictionary_of(model) for model in MODELS)
    sets = " | ".join(activation_set_of(model) for model in MODELS)
    return [
        {
            "dictionary_a": a,
            "feature_a": index,
            "dictionary_b": b,
            "feature_b": (index + 3) % N_FEATURES,
            "method": "activation_correlation",
            "activation_sets": sets,
            "score": 0.4 + 0.5 * (index % 7) / 7,
            "rank": 0,
            "mutual": index % 5 == 0,
            "margin": 0.12,
            "n": 12_000,
            "p_value": 0.01,
            "q_value": 0.03,
            "ci_low": 0.35,
            "ci_high": 0.95,
            "n_documents": 4,
            "same_above": 0.5,
            "floor_score": 0.31,
            "floor_same": index == 0,
            "verdict": "unmatched" if index == WEAK else "same",
        }
        for index in range(0, N_FEATURES, 5)
    ]


def build(root: Path) -> Path:
    """Write the whole catalogue below ``root``."""
    ledger = Ledger(root)

    def commit(stage: str, label: str, slices: Any, facts: Any = None, config: Any = None) -> None:
        with ledger.claim(stage, 1, label, {"label": label, **(config or {})}, [], run_id=RUN) as claim:
            claim.commit(slices, facts=facts or {})

    documents = [
        {
            "document_id": f"doc-{n}",
            "split": "eval" if n % 10 == 0 else "train",
            "n_chars": len(document_text(n)),
            "text": document_text(n),
            "labels": [("kind", "code")],
        }
        for n in range(40)
    ]
    corpus = {
        "corpus_id": CORPUS,
        "source": "stdlib",
        "revision": "3.11",
        "digest": "ab" * 32,
        "n_documents": 40,
        "n_eval_documents": 4,
        "n_chars": 40_000,
        "n_duplicates": 0,
    }
    for model in MODELS:
        commit(
            "cache_activations",
            f"{model} {HOOKPOINT}",
            [
                SliceWrite("models", model, columns("models", [model_row(model)])),
                SliceWrite("corpora", CORPUS, columns("corpora", [corpus])),
                SliceWrite(
                    "documents", CORPUS, with_constants(columns("documents", documents), corpus_id=CORPUS)
                ),
                SliceWrite(
                    "activation_sets", activation_set_of(model), columns("activation_sets", [_set_row(model)])
                ),
            ],
        )
        _commit_dictionary(commit, model)
    _commit_observation(commit, *MODELS)
    matches = SliceWrite("matches", "a b", columns("matches", match_rows()))
    commit("match_features", " × ".join(MODELS), [matches])
    publish_rows(root, _run_slices(), fingerprint=stage_fingerprint("runs", 1, {}))
    return root


def _commit_dictionary(commit: Any, model: str) -> None:
    named = dictionary_of(model)
    ids = {"dictionary_id": named, "activation_set_id": activation_set_of(model)}
    explained, scored, judged = explanation_rows(model)
    commit(
        "train_dictionary",
        named,
        [
            SliceWrite("dictionaries", named, columns("dictionaries", [_dictionary_row(model)])),
            SliceWrite(
                "dictionary_metrics",
                named,
                with_constants(columns("dictionary_metrics", _metric_rows(model)), **ids),
            ),
        ],
    )
    features, examples = _mined_tables()
    commit(
        "mine_examples",
        named,
        [
            SliceWrite("features", named, with_constants(features, **ids)),
            SliceWrite("examples", named, with_constants(examples, **ids)),
        ],
    )
    commit("explain_features", named, [SliceWrite("explanations", named, columns("explanations", explained))])
    commit(
        "score_explanations",
        named,
        [
            SliceWrite("scores", named, columns("scores", scored)),
            SliceWrite("judgements", named, columns("judgements", judged)),
        ],
    )
    if model == MODELS[0]:
        commit_floors(commit, columns, ids)


def _commit_observation(commit: Any, model: str, other: str) -> None:
    explained = columns("explanations", explanation_rows(model)[0])
    named, sets = dictionary_of(model), (activation_set_of(model), activation_set_of(other))
    commit_observation(commit, named, sets[1], *_mined_tables(), explained)
    commit_shifts(commit, columns, named, sets, N_FEATURES)
    commit_measures(commit, columns, named, sets[0])


def _mined_tables() -> tuple[pa.Table, pa.Table]:
    features = columns("features", [feature_row(index) for index in range(N_FEATURES)])
    return features, columns("examples", [row for index in range(N_FEATURES) for row in example_rows(index)])


def _set_row(model: str) -> dict[str, Any]:
    return {
        "activation_set_id": activation_set_of(model),
        "model_id": model,
        "corpus_id": CORPUS,
        "hookpoint": HOOKPOINT,
        "d_in": 128,
        "n_sequences": 40,
        "n_tokens": 400_000,
        "n_valid_tokens": 396_000,
        "context_length": 128,
        "packing": "block",
        "bos": "drop",
        "dtype": "float16",
        "norm": 11.3,
        "n_nonfinite": 0,
        "uri": "_blobs/activations/x",
        "digest": "01" * 32,
        "n_bytes": 10**8,
        "median_norm": 168.0,
        "n_massive": 21 if model == IMPORTED else 0,
        "massive_share": 0.53 if model == IMPORTED else 0.0,
        "max_norm": 25_500.0 if model == IMPORTED else None,
        "massive_positions": [{"position": 1, "n": 20}] if model == IMPORTED else [],
        "massive_tokens": "keep",
    }


def _dictionary_row(model: str) -> dict[str, Any]:
    hook = [{"model_id": model, "hookpoint": HOOKPOINT}]
    return {
        "dictionary_id": dictionary_of(model),
        "alias": f"{model}/{HOOKPOINT}/topk-x8-k16-s0",
        "reads": hook,
        "writes": hook,
        "unit_type": "latent",
        "architecture": "topk",
        "d_in": 128,
        "d_sae": N_FEATURES,
        "config": json.dumps({"k": 16}),
        "weights_uri": "_blobs/dictionaries/x",
        "weights_digest": "23" * 32,
        "activation_set_id": activation_set_of(model),
        "origin": "imported" if model == IMPORTED else "trained",
        "verified": model != IMPORTED,
        "created_at": NIGHT,
    }


def _metric_rows(model: str) -> list[dict[str, Any]]:
    """Reconstruction with its forms, a suite with a value by letter, a certificate if it was imported."""
    shared = {"split": "eval", "n": 40_000, "metric_version": 1, "note": None, "control": None}
    control = json.dumps({"k": 16, "pca": 0.31, "random": 0.94})
    values = [
        ("fvu", "", 0.112, control),
        ("fvu", "latents_zero", 0.83, None),
        ("fvu", "without_massive", 0.291, None),
        ("l0", "", 16.0, None),
        ("l0", "p95", 31.0, None),
        ("ce_recovered", "mean_ablation", 0.967, None),
        ("ce_recovered", "zero_ablation", 0.991, None),
        ("absorption_fraction", "", 0.07, json.dumps({"random": 0.4})),
        ("absorption_fraction", "q", 0.55, None),
        ("density_spectrum", "unseen", 0.25, None),
        ("density_spectrum", "log10 -3.0", 0.75, None),
        ("a_new_measure", "", 4.25, None),
    ]
    rows = [{**shared, "metric": m, "variant": v, "value": x, "control": c} for m, v, x, c in values]
    rows.append(
        {**shared, "metric": "kl", "variant": "", "value": None, "note": "no language model was given"}
    )
    return rows + (_certificate_rows(shared) if model == IMPORTED else [])


def _certificate_rows(shared: dict[str, Any]) -> list[dict[str, Any]]:
    why = "its FVU of 0.61 is above 0.5 <b>here</b>"
    read = [("import_fvu", 0.61), ("import_l0", 15.0), ("import_unseen_share", 0.125)]
    rows = [
        {**shared, "metric": m, "variant": "", "value": value, "note": why, "n": 4_096} for m, value in read
    ]
    other = {"variant": "hookpoint=blocks.1.resid_post", "note": "the same file read otherwise, L0 14.5"}
    return [*rows, {**shared, **other, "metric": "import_fvu", "value": 0.12, "n": 4_096}]


def run_row(run: str, state: str, start: datetime, error: str | None = None) -> dict[str, Any]:
    """One run of the nightly flow."""
    return {
        "run_id": run,
        "pipeline": "demo",
        "flow": "nightly",
        "deployment": "demo",
        "prefect_flow_run_id": run,
        "state": state,
        "started_at": start,
        "finished_at": start + timedelta(minutes=5),
        "code_version": "0.1.0",
        "config_digest": "45" * 32,
        "error": error,
        "summary": "[]",
    }


def publish_run(root: Path, run: str, state: str, start: datetime) -> None:
    """Record one more run."""
    rows = columns("runs", [run_row(run, state, start)])
    publish_rows(
        root, [SliceWrite("runs", run, rows)], fingerprint=stage_fingerprint("runs", 1, {"run": run})
    )


def publish_alias(root: Path, alias: str, dictionary_id: str) -> None:
    """From the night after on, ``alias`` means another dictionary."""
    row = {"alias": alias, "valid_from": NIGHT + timedelta(days=1), "dictionary_id": dictionary_id}
    rows = columns("aliases", [row])
    publish_rows(
        root,
        [SliceWrite("aliases", "aliases", rows)],
        fingerprint=stage_fingerprint("aliases", 1, row | {"valid_from": ""}),
    )


def _run_slices() -> list[SliceWrite]:
    full = "the disk <b>was</b> full: ![x](http://evil.example/y.png)"
    runs = [
        run_row(RUN, "completed", NIGHT),
        run_row(RUN_BEFORE, "failed", NIGHT - timedelta(days=1), full),
    ]
    aliases = [
        {
            "alias": f"{model}/{HOOKPOINT}/topk-x8-k16-s0",
            "valid_from": NIGHT,
            "dictionary_id": dictionary_of(model),
        }
        for model in MODELS
    ]
    return [SliceWrite("runs", run["run_id"], columns("runs", [run])) for run in runs] + [
        SliceWrite("aliases", "aliases", columns("aliases", aliases))
    ]
