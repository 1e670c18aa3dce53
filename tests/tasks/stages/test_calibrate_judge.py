"""A judge is calibrated once for each prompt, model and text; its threshold counts; chance is refused."""

import sysconfig
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.connection import connect
from catalog.errors import UserError
from catalog.schemas import TABLES
from catalog.slices import SliceWrite
from catalog.store import publish_rows
from tasks.autointerp.planting.evidence import plant
from tasks.autointerp.planting.families import Planted
from tasks.autointerp.planting.passages import cut, split_text
from tasks.stages.calibrate_judge import JudgeUnit, calibrate_judge
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.stages.score_explanations import ScoreUnit, score_explanations
from tasks.support.policies import StageContext
from tasks.support.score_units import refuse_at_chance
from tests.fakes.openai_server import Answer, Brain, FakeOpenAI, Question
from tests.fakes.ranked import ranked
from tests.tasks.stages.labelled import mined
from tests.tasks.stages.test_label_stages import explainer, point, scorer

CORPUS = "stdlib-0"


def documents() -> list[tuple[str, str]]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [(path.name, path.read_text("utf-8")[:20_000]) for path in sorted(folder.glob("[a-d]*.py"))[:40]]


@pytest.fixture(scope="module")
def by_label() -> dict[str, Planted]:
    return {one.label: one for one in plant(cut(documents()), 2)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [
        {"corpus_id": CORPUS, "document_id": name, "split": "train", "n_chars": len(text), "text": text}
        | {"digest": "0", "labels": []}
        for name, text in documents()
    ]
    own = [column.name for column in TABLES["documents"].columns if column.name in rows[0]]
    schema = pa.schema([TABLES["documents"].schema.field(name) for name in own])
    table = pa.Table.from_pylist(rows, schema=schema)
    publish_rows(tmp_path / "catalogue", [SliceWrite("documents", CORPUS, table)], fingerprint="d")
    return tmp_path / "catalogue"


def optimist(by_label: dict[str, Planted]) -> Brain:
    """Says yes always; what it believes is right for planted features, and for the word of a label."""

    def brain(question: Question) -> Answer:
        planted = by_label.get(question.explanation)
        word = question.explanation.split()[-1].strip('"')
        right = [
            any(planted.mask(split_text(passage))) if planted else word in passage
            for passage in question.passages
        ]
        return ranked([1] * len(right), [3.0 if yes else 1.0 for yes in right])

    return brain


def test_a_judge_is_asked_once_for_each_prompt_and_model(
    root: Path, by_label: dict[str, Planted], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = StageContext(root, "r")
    with FakeOpenAI(optimist(by_label)) as server:
        point(monkeypatch, "one", server.base_url, concurrency=8)
        first = calibrate_judge.fn(context, JudgeUnit(scorer("detection"), CORPUS))
        asked = server.n_questions
        again = calibrate_judge.fn(context, JudgeUnit(scorer("detection", n_firing=9, seed=4), CORPUS))
        assert (again.recomputed, server.n_questions) == (False, asked), "items and seeds ask nothing new"
        assert calibrate_judge.fn(context, JudgeUnit(scorer("fuzzing"), CORPUS)).recomputed
        point(monkeypatch, "one", server.base_url, model="other", concurrency=8)
        assert calibrate_judge.fn(context, JudgeUnit(scorer("detection"), CORPUS)).recomputed
    with connect(root) as connection:
        rows = connection.sql("select judge, scorer, yes_rate, reads from judges order by all").fetchall()
        purposes = connection.sql("select distinct purpose from llm_calls").fetchall()
    assert [(judge, kind) for judge, kind, _, _ in rows] == [
        ("m", "detection"),
        ("m", "fuzzing"),
        ("other", "detection"),
    ]
    assert purposes == [("calibrate",)]
    assert first.facts["reads"]
    refuse_at_chance("one", first)


def test_the_threshold_of_the_calibration_decides(
    root: Path, by_label: dict[str, Planted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that says yes to everything has 0.5 without the threshold, and is right with it."""
    context, found = StageContext(root, "r"), dict[str, Any]()
    with FakeOpenAI(optimist(by_label)) as server:
        point(monkeypatch, "one", server.base_url, concurrency=8)
        calibrated = calibrate_judge.fn(context, JudgeUnit(scorer("detection"), CORPUS))
        explained = explain_features.fn(context, ExplainUnit(explainer("lexical"), mined(root, 3)))
        for name, given in (("without", None), ("with", calibrated)):
            unit = ScoreUnit(scorer("detection"), explained, calibrated=given)
            scored = score_explanations.fn(context, unit)
            with connect(root) as connection:
                sql = "select avg(value) from scores where metric = 'balanced_accuracy' and fingerprint = ?"
                (found[name],) = connection.execute(sql, [scored.fingerprint]).fetchone()  # type: ignore[misc]
    assert found == {"without": 0.5, "with": 1.0}


def test_a_judge_at_chance_is_refused_with_its_figures(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(
        lambda question: ranked([1] * len(question.passages), [2.0] * len(question.passages))
    ) as server:
        point(monkeypatch, "one", server.base_url, concurrency=8)
        calibrated = calibrate_judge.fn(StageContext(root, "r"), JudgeUnit(scorer("detection"), CORPUS))
    said = r"the judge one is at chance: AUROC 0.50 .* yes to 100 % .*'endpoint', or set accept_chance: true"
    with pytest.raises(UserError, match=said):
        refuse_at_chance("one", calibrated)
