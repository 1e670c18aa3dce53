"""Labels and comparisons in pipeline files, and what a run makes of them."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.connection import connect
from catalog.errors import UserError
from flows import spine
from flows.comparing import check_labels
from flows.config import PipelineConfig, load_pipeline
from flows.graph import with_needs
from flows.observe import _observing
from flows.reports import Run
from flows.walk import Walk
from tasks.activations.models.embedded import embedded_model_path
from tasks.support.policies import StageContext

PLANTED = 60
HOOKPOINT = "blocks.1.resid_post"
WORDS = {
    "review": "this film was bad good plot actor waste of two hours again never liked",
    "address": "12 Long Street York UK 7 Park Lane Leeds 31 High Road London N1",
}
LABELS = {"kind": "labels", "label": "kind", "a": "review", "b": "address"}
MODELS = {"kind": "models", "a": "pico-a", "b": "twin"}
TWICE = "{kind: labels, label: k, a: x, b: y}"
CORPORA = {"kind": "corpora", "a": "main", "b": "addresses"}


def corpus_of(folder: Path, kinds: tuple[str, ...], seed: int = 0) -> dict[str, object]:
    """Documents of kinds that share no word, and a label that all of them share."""
    rng = np.random.default_rng(seed)
    texts = {
        f"{kind}-{seed}-{i:03d}": " ".join(rng.choice(WORDS[kind].split(), 40))
        for kind in kinds
        for i in range(PLANTED)
    }
    rows = [
        {"doc_id": name, "text": text, "kind": name.partition("-")[0], "one": "same"}
        for name, text in texts.items()
    ]
    path = folder / f"texts-{seed}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    columns = {"text_column": "text", "id_column": "doc_id", "label_columns": ["kind", "one"]}
    return {"source": "parquet", "path": str(path), **columns}


def pipeline(folder: Path, **sections: object) -> PipelineConfig:
    """A dictionary of pico-a, also looked at on the same weights under another id, and on addresses alone."""
    twin = {"id": "twin", "source": "local", "path": str(embedded_model_path("pico-a"))}
    topk = {"architecture": "topk", "d_sae": 64, "k": 4, "n_tokens": 4_000, "seed": 0}
    values = {
        "name": "labels",
        "corpus": corpus_of(folder, ("review", "address")),
        "corpora": [{"id": "addresses", **corpus_of(folder, ("address",), seed=1)}],
        "models": [{"id": "pico-a", "source": "embedded"}, twin],
        "activations": {
            "hookpoints": [HOOKPOINT],
            "context_length": 64,
            "n_tokens": 20_000,
            "eval_share": 0.25,
        },
        "dictionaries": [{**topk, "train_on": ["pico-a"]}],
        "observe": [{"model": "twin"}, {"corpus": "addresses"}],
        **sections,
    }
    return PipelineConfig.model_validate(values)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("labels")
    root = folder / "catalogue"
    run = Run("test", "labels", StageContext(root, "run-1", device="cpu"), datetime.now(UTC), "0")
    config = pipeline(folder, compare=[LABELS, MODELS, CORPORA])
    spine.run_stages(run, config, ["associate_labels", "compare_observations"])
    assert run.failures == []
    return run, root


def test_kinds_of_documents_are_told_apart(walked: tuple[Run, Path]) -> None:
    with connect(walked[1]) as connection:
        best = connection.execute(
            "select auroc, q_value, n_documents, value from associations join dictionaries "
            "using (dictionary_id, activation_set_id) order by q_value, feature_index"
        ).fetchone()
        shift = connection.execute(
            "select abs(effect), q_value, n_documents_a + n_documents_b, set_a = set_b, kind, comparison "
            "from feature_shifts where kind = 'labels' order by q_value limit 1"
        ).fetchone()
        (n_values,) = connection.execute("select count(distinct label) from associations").fetchone()
    assert max(best[0], 1 - best[0]) > 0.9
    assert (best[1] < 1e-6, best[2], n_values) == (True, 2 * PLANTED, 1)
    assert (shift[0] > 3, shift[1] < 1e-6, shift[2]) == (True, True, 2 * PLANTED)
    assert shift[3:] == (True, "labels", "labels kind: review | address")


def test_the_same_weights_under_another_id_differ_in_nothing(walked: tuple[Run, Path]) -> None:
    run, root = walked
    with connect(root) as connection:
        rows = connection.execute(
            "select pearson, jaccard, overlap_top, effect, density_b - density_a, q_value, set_a <> set_b "
            "from feature_shifts where kind = 'models'"
        ).fetchall()
    assert len(rows) > 20
    assert set(rows) == {(1.0, 1.0, 1.0, 0.0, 0.0, 1.0, True)}
    (facts,) = [o.facts for _, o in run.outcomes if o.facts.get("comparison") == "models pico-a | twin"]
    assert facts["summary"]["n_found"] == 0
    assert facts["summary"]["l0_a"] == facts["summary"]["l0_b"]


def test_words_that_a_corpus_lacks_show(walked: tuple[Run, Path]) -> None:
    """Features of addresses fire in more documents of the corpus that has nothing else, and none in fewer."""
    with connect(walked[1]) as connection:
        rows = connection.execute(
            """select s.effect, s.q_value, l.effect, s.n_documents_a, s.n_documents_b
               from feature_shifts s join feature_shifts l using (dictionary_id, feature_index, set_a)
               where s.kind = 'corpora' and l.kind = 'labels' and l.q_value < 1e-6 and abs(l.effect) > 4"""
        ).fetchall()
    assert {row[3:] for row in rows} == {(2 * PLANTED, PLANTED)}
    assert {(row[0] > 0) == (row[2] > 0) for row in rows} == {True}
    assert max(row[1] for row in rows) < 0.01


def test_what_was_left_out_stands_in_the_summary(walked: tuple[Run, Path]) -> None:
    one, few, lacking = walked[0].summary()["skipped"]
    assert one == "label one has one value, same, in the documents of the set"
    assert few == "label kind has one value, address, in the documents of the set"
    assert lacking.endswith("lacks a side of labels kind: review | address")


def test_rows_by_document_agree_with_the_features(walked: tuple[Run, Path]) -> None:
    with connect(walked[1]) as connection:
        found = connection.execute(
            """select count(distinct activation_set_id), count(*) filter (where n_tokens > 0),
                 count(*) filter (where f.n_tokens <> coalesce(d.n, 0) or f.max_activation <> d.largest)
               from features f left join (
                 select dictionary_id, activation_set_id, feature_index, sum(n_tokens) as n,
                   max(max_activation) as largest from document_firings group by all) d
               using (dictionary_id, activation_set_id, feature_index)"""
        ).fetchone()
    assert (found[0], found[1] > 60, found[2]) == (3, True, 0)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"compare": [{**LABELS, "label": "topic"}]}, "no label 'topic'; labels: kind, one"),
        ({"compare": [{**LABELS, "b": "letter"}]}, "no value 'letter'; values: address, review"),
        ({"associate": {"labels": ["colour"]}}, "no label 'colour'; labels: kind, one"),
    ],
)
def test_labels_that_the_corpus_lacks_are_refused(
    walked: tuple[Run, Path], tmp_path: Path, sections: dict[str, object], message: str
) -> None:
    walk = Walk(walked[0], pipeline(tmp_path, **sections), with_needs([]))
    with pytest.raises(UserError, match=message):
        check_labels(walk)


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("compare=[{kind: labels, label: kind, a: x, b: x}]", ["compare.0", "both 'x'"]),
        ("compare=[{kind: labels, label: kind, a: x}]", ["compare.0", "b", "is missing"]),
        ("compare=[{kind: eras, a: x, b: y}]", ["compare.0", "unknown kind 'eras'; kinds: labels, corpora"]),
        (f"compare=[{TWICE}, {TWICE}]", ["comparison 'labels k: x | y' is listed twice"]),
        ("compare=[{kind: models, a: pico-a, b: x}]", ["names 'x'; models: pico-a, pico-b"]),
        ("compare=[{kind: corpora, a: main, b: x}]", ["names 'x'; corpora: main"]),
        ("compare=[{kind: models, a: pico-a, b: pico-b}]", ["add {model: pico-b} to observe"]),
        ("compare=[{kind: growth}]", ["'growth: earlier | newest' needs a corpus with grows: true"]),
        ("associate.min_documents=1", ["associate.min_documents"]),
    ],
)
def test_a_mistake_is_one_sentence(override: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_pipeline("demo", [override])
    assert [fragment for fragment in fragments if fragment not in str(caught.value)] == []


def test_comparisons_need_the_firings_of_documents() -> None:
    overrides = [f"compare=[{TWICE}]", "mining.document_firings.keep=false"]
    with pytest.raises(UserError, match="reads document_firings: set mining"):
        load_pipeline("demo", overrides)


def test_a_pipeline_that_compares_can_be_observed_on_demand(tmp_path: Path) -> None:
    """What it compares between sets is left out, because the flow looks at one set."""
    config = _observing(pipeline(tmp_path, compare=[LABELS, MODELS, CORPORA]), ["*"], "pico-a", "", "")
    assert [one.name for one in config.compare] == ["labels kind: review | address"]
