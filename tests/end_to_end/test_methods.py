"""Every registered method from one pipeline file: trained, mined, explained, scored and matched."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from catalog.connection import connect
from flows import spine
from flows.config import load_pipeline
from flows.reports import Run
from tasks.activations.models.embedded import embedded_model_path
from tasks.dictionaries.base import ARCHITECTURES
from tasks.support.policies import StageContext
from tests.flows.serverless import tasks_as_functions

pytestmark = pytest.mark.timeout(900)

STREAM, LATER, COMPARED = (f"blocks.{block}.resid_post" for block in (1, 2, 3))
NAMES = tuple(name for name in ARCHITECTURES.names() if ARCHITECTURES[name].how_trained != "imported")
HOOKPOINTS = (STREAM, LATER, "blocks.1.mlp_out", "blocks.2.mlp_out")
WORDS = {
    "code": "def return self None import class for in if else value list raise error ( ) : = .",
    "prose": "the of a is that when this function object returns string with not be used, by and .",
}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "difference_of_means": {"label": "topic", "d_sae": None},
    "neurons": {"reads": ["blocks.1.mlp_act"], "d_sae": None},
    "pca": {"d_sae": None, "n_components": 8},
    "snmf": {"reads": ["blocks.1.mlp_act"]},
    "end_to_end": {"n_tokens": 1_000},
    "random_directions": {"reads": ["blocks.1.attn_z"]},
}
"""What a method needs beside its example; everything else reads one of the places of one width."""
TWO_MODELS = {
    "architecture": "batch_topk_crosscoder",
    "k": 4,
    "models": ["pico-a", "again"],
    "reads": [COMPARED],
}


def write_corpus(path: Path) -> None:
    """Documents of two topics, each with words of its own."""
    random = np.random.default_rng(0)
    rows = [
        {"text": " ".join(random.choice(WORDS[topic].split(), 80)), "topic": topic}
        for topic in ("code", "prose")
        for _ in range(60)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def dictionary(name: str, place: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"architecture": name, "d_sae": 16, "n_tokens": 6_000}
    if ARCHITECTURES[name].how_trained == "steps":
        fields |= {"batch_tokens": 512, "lr": 3e-3}
    wanted = {**fields, "reads": [place], **ARCHITECTURES[name].Config.example, **SETTINGS.get(name, {})}
    known = ARCHITECTURES[name].Config.model_fields
    evaluation = {"max_tokens": 1_000, "max_control_tokens": 1_000, "fidelity_sequences": 2}
    return {field: value for field, value in {**wanted, "evaluation": evaluation}.items() if field in known}


def write_pipeline(folder: Path) -> Path:
    """All methods on the embedded model, each at one place, and a crosscoder of that model and itself."""
    write_corpus(folder / "topics.parquet")
    mlps = [f"blocks.{n}.{kind}" for n in (1, 2) for kind in ("mlp_in", "mlp_out")]
    inner = ["blocks.1.mlp_act", "blocks.1.attn_z"]
    again = {"id": "again", "source": "local", "path": str(embedded_model_path("pico-a"))}
    anywhere = [
        name
        for name in NAMES
        if "reads" not in {**ARCHITECTURES[name].Config.example, **SETTINGS.get(name, {})}
    ]
    hookpoints = {name: HOOKPOINTS[n % len(HOOKPOINTS)] for n, name in enumerate(anywhere)}
    dictionaries = [dictionary(name, hookpoints.get(name, STREAM)) for name in NAMES]
    sections = {
        "name": "methods",
        "corpus": {
            "source": "parquet",
            "path": str(folder / "topics.parquet"),
            "text_column": "text",
            "label_columns": ["topic"],
        },
        "models": [
            {"id": "pico-a", "source": "embedded", "hookpoints": [STREAM, LATER, COMPARED, *mlps, *inner]},
            {**again, "hookpoints": [COMPARED]},
        ],
        "activations": {"context_length": 64, "n_tokens": 6_000, "eval_share": 0.25},
        "dictionaries": [*dictionaries, {**dictionary("batch_topk", LATER), **TWO_MODELS}],
        "mining": {"n_top": 4, "n_per_band": 2, "n_random": 4, "n_neighbour": 4},
        "explain": {"explainer": "lexical", "max_values": 2},
        "score": [{"scorer": "predicate", "shuffles": 1}],
        "match": [{"matcher": "decoder_cosine"}],
    }
    path = folder / "methods.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalogue after one run of the pipeline; its stages need no Prefect server and no child here."""
    folder = tmp_path_factory.mktemp("methods")
    context = StageContext(folder / "catalogue", "methods", device="cpu")
    run = Run("nightly", "methods", context, datetime.now(UTC), "0" * 64)
    n_threads = torch.get_num_threads()
    with tasks_as_functions():
        torch.set_num_threads(1)
        spine.run_stages(run, load_pipeline(str(write_pipeline(folder))))
    torch.set_num_threads(n_threads)
    assert run.failures == []
    return folder / "catalogue"


def rows_of(root: Path, sql: str) -> list[dict[str, Any]]:
    with connect(root) as connection:
        return list(connection.sql(sql).to_arrow_table().to_pylist())


def test_every_method_goes_all_the_way(root: Path) -> None:
    rows = rows_of(
        root,
        """
        select architecture, dictionary_id, d_sae, verified, len(models) as n_models,
          (select count(*) from features f where f.dictionary_id = d.dictionary_id) as n_features,
          (select count(*) from features f where f.dictionary_id = d.dictionary_id and n_tokens > 0)
            as n_alive,
          (select count(*) from examples e where e.dictionary_id = d.dictionary_id) as n_examples,
          (select count(*) from explanations x where x.dictionary_id = d.dictionary_id) as n_explanations,
          (select count(*) from scores s where s.dictionary_id = d.dictionary_id) as n_scores,
          (select value from dictionary_metrics m
             where m.dictionary_id = d.dictionary_id and metric = 'fvu' and variant = '') as fvu
        from (select *, list_distinct([r.model_id for r in reads]) as models from dictionaries) d
        """,
    )
    assert sorted(row["architecture"] for row in rows if row["n_models"] == 1) == sorted(NAMES)
    assert [row["architecture"] for row in rows if row["n_models"] == 2] == ["batch_topk_crosscoder"]
    for row in rows:
        assert row["n_features"] == row["d_sae"], row
        assert row["fvu"] is not None, row
        assert min(row[name] for name in ("n_alive", "n_examples", "n_explanations", "n_scores")) > 0, row


def test_dictionaries_say_what_they_read_and_write(root: Path) -> None:
    rows = rows_of(root, "select architecture, alias, reads, writes, unit_type, origin from dictionaries")
    by_name = {row["architecture"]: row for row in rows if "-and-" not in row["alias"].split("/")[0]}
    read, written = (
        [point["hookpoint"] for point in by_name["skip_transcoder"][name]] for name in ("reads", "writes")
    )
    assert (read, written) == (["blocks.1.mlp_in"], ["blocks.1.mlp_out"])
    assert by_name["cross_layer_transcoder"]["alias"].startswith("pico-a/blocks.1_2.mlp_in-to-mlp_out/")
    assert by_name["topk"]["reads"] == by_name["topk"]["writes"]
    assert {row["unit_type"] for row in rows} >= {"latent", "neuron", "direction", "factor"}
    assert {row["origin"] for row in rows} == {"trained", "baseline"}


def test_features_have_the_columns_of_their_method(root: Path) -> None:
    features = rows_of(
        root, "select d.architecture, d.alias, f.* from features f join dictionaries d using (dictionary_id)"
    )
    equal = [row for row in features if row["alias"].startswith("pico-a-and-again/") and row["n_tokens"] > 50]
    assert equal, "the crosscoder of two models has features that fire"
    assert all(abs(row["relative_norm"] - 0.5) < 0.1 for row in equal), "the two are one and the same model"
    layers = {row["feature_group"] for row in features if row["architecture"] == "cross_layer_transcoder"}
    assert layers == {0, 1}
    norms = [row["site_norms"] for row in features if row["architecture"] == "cross_layer_transcoder"]
    assert all(len(norm) == 2 for norm in norms)
    logits = {row["architecture"]: len(row["top_logits"]) for row in features}
    assert logits["topk_transcoder"] > 0
    assert logits["neurons"] == logits["random_directions"] > 0, "through the output projection"
    heads = [row for row in features if row["architecture"] == "random_directions"]
    assert all(abs(sum(row["head_shares"]) - 1) < 1e-5 for row in heads)
    assert all(row["dfa_offset"] <= 0 and row["dfa_entropy"] >= 0 for row in heads if row["n_tokens"] > 100)


def test_metrics_belong_to_what_is_written(root: Path) -> None:
    rows = rows_of(
        root,
        "select architecture, metric, variant, value, control, note from dictionary_metrics "
        "join dictionaries using (dictionary_id)",
    )
    found = {(row["architecture"], row["metric"], row["variant"]): row for row in rows}
    assert found["skip_transcoder", "skip_share", ""]["value"] is not None
    assert found["topk_transcoder", "ce_recovered", "mean_ablation"]["value"] is not None
    assert "linear" in json.loads(found["transcoder", "fvu", ""]["control"])
    assert found["cross_layer_transcoder", "fvu", "blocks.2.mlp_out"]["value"] is not None
    assert found["cross_layer_transcoder", "kl_recovered", "mean_ablation"]["value"] is not None
    assert {"linear", "random"} <= json.loads(found["cross_layer_transcoder", "kl", ""]["control"]).keys()
    assert "one is replaced at a time" in found["crosscoder", "kl", ""]["note"]
    for place in (f"pico-a/{COMPARED}", f"again/{COMPARED}"):
        assert (
            found["batch_topk_crosscoder", "kl_recovered", f"mean_ablation at {place}"]["value"] is not None
        )
    assert found["batch_topk_crosscoder", "first_last_cosine", "shared"]


def test_matches_stay_within_one_space(root: Path) -> None:
    rows = rows_of(
        root,
        "select distinct a.writes = b.writes as same_space, a.architecture as a, b.architecture as b "
        "from matches join dictionaries a on a.dictionary_id = dictionary_a "
        "join dictionaries b on b.dictionary_id = dictionary_b",
    )
    assert all(row["same_space"] for row in rows)
    matched = {row[side] for row in rows for side in "ab"}
    controls = {name for name in NAMES if ARCHITECTURES[name].Config.is_control}
    assert matched >= set(NAMES) - controls - {"cross_layer_transcoder"}
    pairs = {frozenset((row["a"], row["b"])) for row in rows}
    assert frozenset(("transcoder", "skip_transcoder")) in pairs
