"""Judges that know nothing, and one that knows all, on planted features: through real HTTP, and simulated."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.autointerp.calibration import Answered, best_threshold, calibrate, judge_row, kappa
from tasks.autointerp.client import open_client
from tasks.autointerp.planting.evidence import plant
from tasks.autointerp.planting.families import Planted
from tasks.autointerp.planting.passages import cut, split_text
from tasks.autointerp.scorers.detection import DetectionConfig
from tests.fakes.openai_server import Answer, Brain, FakeOpenAI, Question, answers
from tests.fakes.ranked import ranked

N_ITEMS, N_FIRING = 10, 5


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [(path.name, path.read_text("utf-8")) for path in sorted(folder.glob("[a-d]*.py"))[:40]]


@pytest.fixture(scope="module")
def by_label(texts: list[tuple[str, str]]) -> dict[str, Planted]:
    return {one.label: one for one in plant(cut(texts), 2)}


def ask(brain: Brain, texts: list[tuple[str, str]], scratch: Path) -> dict[str, Any]:
    """The row of ``judges`` of a judge, with the facts of the stage."""
    with FakeOpenAI(brain) as fake:
        environ = {"FEATLAS_ENDPOINT_J_BASE_URL": fake.base_url, "FEATLAS_ENDPOINT_J_MODEL": "m"}
        environ |= {"FEATLAS_ENDPOINT_J_CONCURRENCY": "8", "FEATLAS_ENDPOINT_J_PROBE": "false"}
        client = open_client(
            "j", environ=environ, cache_folder=scratch / "cache", owner="o", scratch=scratch, forced=False
        )
        found = calibrate(texts, DetectionConfig(endpoint="j"), scratch=scratch, client=client, run_id="r")
        asked = fake.n_questions
    assert found.facts["complete"]
    assert found.llm_calls.num_rows == asked
    assert set(found.llm_calls["purpose"].to_pylist()) == {"calibrate"}
    (row,) = found.judges.to_pylist()
    return {**row, "facts": found.facts}


def rightly(by_label: dict[str, Planted], question: Question) -> list[bool]:
    """What somebody answers who knows the rule of the label and reads the passages."""
    planted = by_label[question.explanation]
    return [any(planted.mask(split_text(passage))) for passage in question.passages]


def test_a_judge_that_knows_all_is_right(
    texts: list[tuple[str, str]], by_label: dict[str, Planted], tmp_path: Path
) -> None:
    row = ask(lambda question: answers(rightly(by_label, question)), texts, tmp_path)
    assert (row["auroc"], row["balanced_accuracy"], row["agreement"]) == (1.0, 1.0, 1.0)
    assert (row["reads"], row["threshold"], row["answered_share"]) == (True, None, 1.0)
    assert row["yes_rate"] == pytest.approx(0.5, abs=0.05)
    assert {family["family"] for family in row["families"]} == {one.family for one in by_label.values()}


@pytest.mark.parametrize(("name", "value"), [("yes", 1), ("no", 0)])
def test_a_judge_with_one_answer_is_at_chance(
    name: str, value: int, texts: list[tuple[str, str]], tmp_path: Path
) -> None:
    row = ask(lambda question: answers([value] * len(question.passages)), texts, tmp_path)
    assert (row["auroc"], row["balanced_accuracy"], row["yes_rate"]) == (0.5, 0.5, float(value))
    assert (row["reads"], row["agreement"]) == (False, None)
    assert "AUROC 0.50 (0.50 to 0.50)" in row["facts"]["found"]


def test_a_judge_that_says_yes_always_may_still_rank(
    texts: list[tuple[str, str]], by_label: dict[str, Planted], tmp_path: Path
) -> None:
    """Its words are worthless, its probabilities are not, and the threshold makes the words right."""

    def brain(question: Question) -> Answer:
        right = rightly(by_label, question)
        return ranked([1] * len(right), [3.0 if yes else 1.0 for yes in right])

    row = ask(brain, texts, tmp_path)
    assert (row["yes_rate"], row["auroc"], row["balanced_accuracy"]) == (1.0, 1.0, 1.0)
    assert row["reads"]
    assert 1 / (1 + np.exp(-1.0)) < row["threshold"] < 1 / (1 + np.exp(-3.0))


def simulated(judge: Callable[[np.random.Generator, np.ndarray], np.ndarray], seed: int) -> list[Answered]:
    generator = np.random.default_rng(seed)
    found = []
    for index in range(24):
        truth = generator.permutation(np.arange(N_ITEMS) < N_FIRING)
        said = judge(generator, truth).astype(float)
        is_probability = bool(((said > 0) & (said < 1)).any())
        none = np.full(N_ITEMS, np.nan)
        found.append(
            Answered(f"f{index}", truth, (said > 0.5).astype(float), said if is_probability else none)
        )
    return found


@pytest.mark.parametrize(
    "judge",
    [
        lambda g, t: g.random(N_ITEMS) < 0.5,
        lambda g, t: g.random(N_ITEMS) < 0.1,
        lambda g, t: np.arange(N_ITEMS) % 2,
        lambda g, t: g.random(N_ITEMS),
    ],
    ids=["coin", "sceptic", "alternating", "random probabilities"],
)
def test_judges_that_know_nothing_are_rarely_believed(judge: Any) -> None:
    rows = [judge_row(simulated(judge, seed), simulated(judge, seed + 10_000)) for seed in range(200)]
    assert np.mean([row["reads"] for row in rows]) < 0.055
    assert np.mean([row["auroc"] for row in rows]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([row["balanced_accuracy"] for row in rows]) == pytest.approx(0.5, abs=0.01)


def test_agreement_is_that_of_cohen() -> None:
    """Cohen 1960: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p = 0.7, e = 0.5, kappa = 0.4."""
    a = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 5, 10, 15])
    b = np.repeat([1.0, 0.0, 1.0, 0.0], [20, 5, 10, 15])
    none = np.full(50, np.nan)
    one, other = (Answered("f", np.ones(50, bool), said, none) for said in (a, b))
    assert kappa([one], [other]) == pytest.approx(0.4)
    assert kappa([], [other]) is None


def test_the_threshold_is_the_best_one_nearest_to_a_half() -> None:
    truth = np.asarray([True, True, False, False])
    answered = Answered("f", truth, np.ones(4), np.asarray([0.9, 0.8, 0.6, 0.7]))
    assert best_threshold([answered]) == pytest.approx(0.75)
    unclear = Answered("f", truth, np.ones(4), np.full(4, 0.7))
    assert best_threshold([unclear]) == 0.5
    assert best_threshold([Answered("f", truth, np.ones(4), np.full(4, np.nan))]) is None


def test_too_few_features_leave_the_question_open() -> None:
    few = simulated(lambda g, t: t, 0)[:4]
    assert judge_row(few, few)["reads"] is None
    assert judge_row([], [])["reads"] is None
