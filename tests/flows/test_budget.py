"""A run with a budget ends at a stage boundary and says what is left; later runs finish the same tables."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog.connection import connect
from catalog.errors import UserError
from flows import reports, run_budget
from flows.commands.run import report
from flows.config import load_pipeline
from flows.config_entries import BudgetConfig
from flows.nightly import nightly
from flows.reports import Run
from flows.run_budget import folder_bytes
from tasks.autointerp.budget import SPENT_BY_RUN, Budget, RunLimit, Spend
from tasks.autointerp.chat import Stopped
from tasks.autointerp.endpoint import EndpointProfile
from tasks.autointerp.explainer import EXPLAINERS
from tasks.stages.explain_features import ExplainUnit, explain_features
from tasks.support.policies import StageContext
from tests.fakes.openai_server import FakeOpenAI, explanation
from tests.flows.serverless import tasks_as_functions
from tests.tasks.stages.labelled import mined

MINUTE = 60.0
MONEY = 0.5
TABLES = {
    "features": "feature_index, n_tokens, density, max_activation",
    "examples": "feature_index, band, rank, document_id, char_start, activations",
    "explanations": "feature_index, explainer, text",
    "scores": "feature_index, scorer, metric, variant, value, n",
    "dictionary_metrics": "metric, variant, split, value",
    "matches": "feature_a, feature_b, score, verdict",
}
SECTIONS: dict[str, Any] = {
    "name": "tiny",
    "corpus": {"source": "stdlib"},
    "models": [{"id": "pico-b", "source": "embedded", "hookpoints": ["blocks.1.resid_post"]}],
    "activations": {"context_length": 64, "n_tokens": 6_000, "eval_share": 0.25, "batch_sequences": 16},
    "dictionaries": [
        {"architecture": "topk", "d_sae": 32, "k": 4, "n_tokens": 2_000, "seed": seed} for seed in (0, 1)
    ],
    "mining": {"n_top": 8, "n_per_band": 4, "n_random": 8, "n_neighbour": 4},
    "explain": {"explainer": "lexical"},
    "score": [{"scorer": "predicate", "shuffles": 2}],
    "match": [{"matcher": "decoder_cosine", "pairs": ["seeds"]}],
}


@pytest.fixture(scope="module", autouse=True)
def without_prefect() -> Iterator[None]:
    with tasks_as_functions():
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "tiny.yaml"
    path.write_text(yaml.safe_dump(SECTIONS))
    return path


def night(path: Path, root: Path, **budget: float) -> dict[str, Any]:
    overrides = [f"budget={json.dumps(budget)}"] if budget else []
    return nightly.fn(str(path), str(root), [], False, overrides)


def rows(root: Path) -> dict[str, list[Any]]:
    with connect(root) as connection:
        queries = {name: f"select {what} from {name} order by all" for name, what in TABLES.items()}
        return {name: connection.execute(text).fetchall() for name, text in queries.items()}


@pytest.fixture(scope="module")
def undisturbed(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("undisturbed") / "catalogue"
    return root, night(path, root)


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every stage that is computed or found takes a minute."""
    clock = [0.0]
    add = reports.Run.add

    def add_and_wait(run: reports.Run, *arguments: Any) -> Any:
        clock[0] += MINUTE
        return add(run, *arguments)

    monkeypatch.setattr(reports.Run, "add", add_and_wait)
    monkeypatch.setattr(run_budget, "now", lambda: clock[0])


@pytest.mark.usefixtures("tick")
def test_nights_with_a_budget_end_with_the_tables_of_one_without(
    path: Path, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root, n_stages = tmp_path / "catalogue", len(undisturbed[1]["stages"])
    summary = night(path, root, minutes=3)
    assert [stage["stage"] for stage in summary["stages"]] == [
        "load_corpus",
        "describe_model",
        "cache_activations",
    ]
    assert (summary["state"], summary["failures"], summary["ended"]) == (
        "completed",
        [],
        "3 minutes are over",
    )
    assert summary["left"] == [
        f"train_dictionary pico-b/blocks.1.resid_post/topk-w32-k4-s{seed}" for seed in (0, 1)
    ]
    assert "left       train_dictionary" in report(summary)
    with connect(root) as connection:
        ((state, told),) = connection.execute("select state, summary from runs").fetchall()
    assert (state, json.loads(told)["left"]) == ("completed", summary["left"])
    assert summary["message"].endswith("ended by its budget (3 minutes are over), 2 left for the next run")
    n_found = [3]
    while "ended" in summary:
        summary = night(path, root, minutes=n_found[-1] + 8)
        assert summary["n_found"] >= n_found[-1]
        assert summary["state"] == "completed"
        n_found.append(len(summary["stages"]))
    assert (n_found[-1], len(n_found) > 2) == (n_stages, True)
    assert rows(root) == rows(undisturbed[0])


def test_a_budget_that_is_large_enough_changes_nothing(path: Path, undisturbed: tuple[Path, Any]) -> None:
    summary = night(path, undisturbed[0], minutes=60, disk_gb=10, usd=1)
    assert summary["n_recomputed"] == 0
    assert {"ended", "left"}.isdisjoint(summary)


def test_the_catalogue_may_grow_by_no_more(path: Path, tmp_path: Path) -> None:
    summary = night(path, tmp_path / "catalogue", disk_gb=1e-6)
    assert summary["ended"].startswith("the catalogue grew by ")
    assert [stage["stage"] for stage in summary["stages"]] == ["load_corpus"]
    assert summary["left"] == ["describe_model pico-b"]


def test_a_file_with_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert folder_bytes(tmp_path) == 1000


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{minutes: 0}", "budget.minutes: Input should be greater than 0"),
        ("{usd: -1}", "budget.usd: Input should be greater than 0"),
        ("{hours: 4}", "unknown field 'hours'; known: minutes, disk_gb, usd"),
        ("{}", "a budget needs minutes, disk_gb or usd"),
        ("{minutes: soon}", "budget.minutes: Input should be a valid number"),
    ],
)
def test_a_wrong_budget_is_one_sentence(path: Path, budget: str, words: str) -> None:
    with pytest.raises(UserError) as refusal:
        load_pipeline(str(path), [f"budget={budget}"])
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_budget_is_no_part_of_an_identity(path: Path) -> None:
    plain = load_pipeline(str(path))
    assert "budget" not in plain.canonical()


def account(folder: Path, run_id: str, name: str = "judge") -> Budget:
    profile = EndpointProfile(name=name, base_url="http://127.0.0.1:1/v1", model="m", budget_usd=1.0)
    return Budget(folder, profile, RunLimit(run_id, 0.5))


def test_all_endpoints_of_a_run_share_its_money(tmp_path: Path) -> None:
    first = account(tmp_path, "run-1").reserve(Spend(0.3, 10))
    with pytest.raises(Stopped, match=SPENT_BY_RUN):
        account(tmp_path, "run-1", "other").reserve(Spend(0.3, 10))
    assert account(tmp_path, "run-1", "other").spent() == Spend(0.0, 0), "the day's account is given back"
    account(tmp_path, "run-1").settle(first, Spend(0.1, 3))
    account(tmp_path, "run-1", "other").reserve(Spend(0.3, 10))
    account(tmp_path, "run-2").reserve(Spend(0.5, 10))
    with pytest.raises(Stopped, match="the day's budget of endpoint 'judge'"):
        account(tmp_path, "run-3").reserve(Spend(0.5, 10))


def test_money_of_a_run_stops_the_questions_and_the_next_run_asks_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer costs 0.15, at most 0.2: of four questions the first run pays three, and the second one."""
    root, n = tmp_path / "catalogue", 4
    values = {"model": "m", "probe": False, "attempts": 1, "concurrency": 1}
    values |= {"input_usd_per_million": 0, "output_usd_per_million": 1000}
    with FakeOpenAI(lambda question: explanation("a text"), completion_tokens=150) as fake:
        for field, value in {**values, "base_url": fake.base_url}.items():
            monkeypatch.setenv(f"FEATLAS_ENDPOINT_JUDGE_{field.upper()}", str(value))
        config = EXPLAINERS["contexts"].Config(explainer="contexts", endpoint="judge")
        unit = ExplainUnit(config, mined(root, n))
        asked, runs = [], []
        for number in range(4):
            run = Run("nightly", "p", StageContext(root, f"run-{number}"), datetime.now(UTC), "0")
            run.limit(BudgetConfig(usd=MONEY))
            run.add(unit.label, explain_features.fn(run.context, unit))
            run.finish()
            assert run.failures == []
            runs.append(run)
            asked.append(fake.n_questions)
    first, last = runs[0], runs[-1]
    assert asked == [3, 4, 4, 4]
    assert first.facts["ended"] == "the budget for language models is used up"
    assert first.facts["left"][0].endswith(
        f"{SPENT_BY_RUN} ({MONEY:g} USD) is used up: the next run continues"
    )
    assert {"ended", "left"}.isdisjoint(last.facts)
