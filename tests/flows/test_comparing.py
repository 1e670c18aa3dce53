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
from flows.reports import Run
from tasks.support.policies import StageContext

PLANTED = 60
CACHING = {"hookpoints": ["blocks.1.resid_post"], "context_length": 64}


def corpus_file(folder: Path) -> Path:
    """Documents of two kinds that share no word, and a label that all of them share."""
    words = {
        "review": "this film was bad good plot actor waste of two hours again never liked",
        "address": "12 Long Street York UK 7 Park Lane Leeds 31 High Road London N1",
    }
    rng = np.random.default_rng(0)
    texts = {
        f"{kind}-{i:03d}": " ".join(rng.choice(some.split(), 40))
        for kind, some in words.items()
        for i in range(PLANTED)
    }
    rows = [
        {"doc_id": name, "text": text, "kind": name.partition("-")[0], "one": "same"}
        for name, text in texts.items()
    ]
    path = folder / "texts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def pipeline(folder: Path, **sections: object) -> PipelineConfig:
    values = {
        "name": "labels",
        "corpus": {
            "source": "parquet",
            "path": str(corpus_file(folder)),
            "text_column": "text",
            "id_column": "doc_id",
            "label_columns": ["kind", "one"],
        },
        "models": [{"id": "pico-a", "source": "embedded"}],
        "activations": {
            "hookpoints": ["blocks.1.resid_post"],
            "context_length": 64,
            "n_tokens": 20_000,
            "eval_share": 0.25,
        },
        "dictionaries": [{"architecture": "topk", "d_sae": 64, "k": 4, "n_tokens": 4_000, "seed": 0}],
        **sections,
    }
    return PipelineConfig.model_validate(values)


LABELS = {"kind": "labels", "label": "kind", "a": "review", "b": "address"}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("labels")
    root = folder / "catalogue"
    run = Run("test", "labels", StageContext(root, "run-1", device="cpu"), datetime.now(UTC), "0")
    config = pipeline(folder, compare=[LABELS])
    spine.run_stages(run, config, ["associate_labels", "compare_observations"])
    assert run.failures == []
    return run, root


def test_kinds_of_documents_are_told_apart(walked: tuple[Run, Path]) -> None:
    with connect(walked[1]) as connection:
        best = connection.execute(
            "select auroc, q_value, n_documents, value from associations order by q_value, feature_index"
        ).fetchone()
        shift = connection.execute(
            "select abs(effect), q_value, n_documents_a + n_documents_b, set_a = set_b, kind, comparison "
            "from feature_shifts order by q_value limit 1"
        ).fetchone()
        (n_values,) = connection.execute("select count(distinct label) from associations").fetchone()
    assert max(best[0], 1 - best[0]) > 0.9
    assert (best[1] < 1e-6, best[2], n_values) == (True, 2 * PLANTED, 1)
    assert (shift[0] > 3, shift[1] < 1e-6, shift[2]) == (True, True, 2 * PLANTED)
    assert shift[3:] == (True, "labels", "labels kind: review | address")


def test_what_was_left_out_stands_in_the_summary(walked: tuple[Run, Path]) -> None:
    assert walked[0].summary()["skipped"] == ["label one has one value, same, in the documents of the set"]


def test_rows_by_document_agree_with_the_features(walked: tuple[Run, Path]) -> None:
    with connect(walked[1]) as connection:
        (n_different,) = connection.execute(
            """select count(*) from features f left join (
                 select feature_index, sum(n_tokens) as n, max(max_activation) as largest
                 from document_firings group by 1) d using (feature_index)
               where f.n_tokens <> coalesce(d.n, 0) or f.max_activation <> d.largest"""
        ).fetchone()
    assert n_different == 0


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
    run, root = walked
    corpus = next(outcome for _, outcome in run.outcomes if outcome.stage == "load_corpus")
    with pytest.raises(UserError, match=message):
        check_labels(pipeline(tmp_path, **sections), root, corpus.facts["corpus_id"])


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("compare=[{kind: labels, label: kind, a: x, b: x}]", ["compare.0", "both 'x'"]),
        ("compare=[{kind: labels, label: kind, a: x}]", ["compare.0", "b", "is missing"]),
        ("compare=[{kind: eras, a: x, b: y}]", ["compare.0", "kind", "labels"]),
        ("compare=[{label: k, a: x, b: y}, {label: k, a: x, b: y}]", ["'labels k: x | y' is listed twice"]),
        ("associate.min_documents=1", ["associate.min_documents"]),
    ],
)
def test_a_mistake_is_one_sentence(override: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        load_pipeline("demo", [override])
    assert [fragment for fragment in fragments if fragment not in str(caught.value)] == []


def test_comparisons_need_the_firings_of_documents() -> None:
    overrides = ["compare=[{label: k, a: x, b: y}]", "mining.document_firings.keep=false"]
    with pytest.raises(UserError, match="reads document_firings: set mining"):
        load_pipeline("demo", overrides)
