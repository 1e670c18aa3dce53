"""A real pipeline through a real Prefect server: complete, found again, partly redone, twice at once."""

import json
import os
import pty
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest

from catalog.connection import connect
from catalog.store import TableStore
from tasks.activations.models.embedded import embedded_model_path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

FILLED = (
    *("runs", "stage_runs", "slices", "models", "corpora", "documents", "activation_sets", "sequences"),
    *("dictionaries", "dictionary_metrics", "training_log", "features", "examples", "explanations"),
    *("scores", "judgements", "matches", "aliases", "document_firings", "feature_neighbours"),
)


def states(summary: dict[str, Any]) -> dict[str, set[str]]:
    """Per stage whether its units were recomputed or found."""
    found: dict[str, set[str]] = {}
    for stage in summary["stages"]:
        found.setdefault(stage["stage"], set()).add(stage["state"])
    return found


def run_on_terminal(user: Any, *arguments: str) -> tuple[dict[str, Any], str]:
    """``featlas run --json`` with a terminal for what it tells: the summary, and all that was drawn."""
    ours, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (50, 160))
    command = [sys.executable, "-m", "flows.cli", "run", str(user.pipeline())]
    command += ["--catalog", str(user.folder / "catalogue"), "--json", *arguments]
    environment = {**user.environment, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command, cwd=user.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=terminal
    )
    os.close(terminal)
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 65_536):
                drawn.append(part)
        except OSError:
            pass  # how Linux says that nobody writes any more

    reader = threading.Thread(target=read)
    reader.start()
    try:
        out, _ = process.communicate(timeout=500)
    finally:
        process.kill()
    reader.join(20)
    os.close(ours)
    text = b"".join(drawn).decode()
    assert process.returncode == 0, text[-3000:]
    return dict(json.loads(out)), text


@pytest.fixture(scope="module")
def first_run(user: Any) -> tuple[dict[str, Any], str]:
    """The summary of the first run on an empty catalogue, and what it drew on a terminal."""
    return run_on_terminal(user)


@pytest.fixture(scope="module")
def summary(first_run: tuple[dict[str, Any], str]) -> dict[str, Any]:
    """The first run on an empty catalogue."""
    return first_run[0]


def test_the_first_run_computes_every_stage_and_fills_every_table(user: Any, summary: dict[str, Any]) -> None:
    assert summary["state"] == "completed"
    assert summary["failures"] == []
    assert {stage["state"] for stage in summary["stages"]} == {"recomputed"}
    assert len(summary["stages"]) == 1 + 2 * 9 + 1
    with connect(user.folder / "catalogue") as connection:
        counts = {name: connection.execute(f"select count(*) from {name}").fetchone() for name in FILLED}
    assert [name for name, (count,) in counts.items() if not count] == []


def test_a_terminal_shows_what_goes_on_before_the_first_stage_is_done(
    first_run: tuple[dict[str, Any], str],
) -> None:
    summary, drawn = first_run
    before, *_ = drawn.split("\x1b[2Kcomputed ")
    assert before.index("reading the request") < before.index("load_corpus ")
    assert "documents read" in before
    assert drawn.count("\x1b[2Kcomputed ") == len(summary["stages"])
    assert {stage["stage"] for stage in summary["stages"]} <= set(drawn.split())


def test_the_catalogue_is_sound(user: Any, summary: dict[str, Any]) -> None:
    done = user.featlas("verify", "--deep", "--catalog", str(user.folder / "catalogue"))
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stdout
    assert not any((user.folder / "catalogue" / "_scratch").glob("*"))


def test_stored_examples_are_recomputed_by_plain_transformers(user: Any, summary: dict[str, Any]) -> None:
    """A fresh process without featlas reproduces 200 stored activations within 1e-2."""
    with connect(user.folder / "catalogue") as connection:
        (alias,) = connection.execute("select min(alias) from dictionaries").fetchone() or ()
    script = Path(__file__).with_name("recompute.py")
    model = embedded_model_path(alias.split("/")[0])
    command = [sys.executable, str(script), str(user.folder / "catalogue"), alias, str(model), "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    compared = json.loads(done.stdout)
    assert compared["n_examples"] == 200
    assert compared["n_active_tokens"] > 100
    assert compared["max_relative_error"] < 1e-2
    assert compared["flip_share"] <= 0.002


def test_a_run_is_recorded_with_its_summary(user: Any, summary: dict[str, Any]) -> None:
    with connect(user.folder / "catalogue") as connection:
        rows = connection.execute("from runs where run_id = $id", {"id": summary["run_id"]}).to_arrow_table()
    (row,) = rows.to_pylist()
    assert (row["pipeline"], row["flow"], row["state"], row["error"]) == (
        "tiny",
        "nightly",
        "completed",
        None,
    )
    assert json.loads(row["summary"])["n_recomputed"] == len(summary["stages"])
    assert row["finished_at"] > row["started_at"]
    assert row["prefect_flow_run_id"] == summary["run_id"]


def test_an_unchanged_pipeline_recomputes_nothing(user: Any, summary: dict[str, Any]) -> None:
    version = TableStore(user.folder / "catalogue").snapshot().version
    again = user.run(user.pipeline())
    assert states(again) == {stage: {"found"} for stage in states(summary)}
    assert [s["fingerprint"] for s in again["stages"]] == [s["fingerprint"] for s in summary["stages"]]
    only_the_run_row = 2
    assert TableStore(user.folder / "catalogue").snapshot().version == version + only_the_run_row


def test_a_changed_explainer_redoes_explanations_and_scores_alone(user: Any, summary: dict[str, Any]) -> None:
    summary_of_change, drawn = run_on_terminal(user, "--set", "explain.max_values=3", "--quiet")
    assert drawn == "", "a quiet run tells a terminal nothing of its progress"
    changed = states(summary_of_change)
    redone = {stage for stage, seen in changed.items() if "recomputed" in seen}
    assert redone == {"explain_features", "score_explanations", "measure_floors"}


def test_one_stage_can_be_forced(user: Any, summary: dict[str, Any]) -> None:
    forced = states(user.run(user.pipeline(), "--stage", "match_features", "--force"))
    assert forced["match_features"] == {"recomputed"}
    assert forced["train_dictionary"] == {"found"}
    assert "explain_features" not in forced


def test_a_part_that_fails_stops_only_what_needs_it(user: Any, summary: dict[str, Any]) -> None:
    failed = user.run(user.pipeline(), "--set", "models.1.hookpoints=[module:gpt_neox.layers]", exit_code=1)
    assert failed["state"] == "failed"
    assert len(failed["failures"]) == 1
    assert "did not run" in failed["failures"][0]
    assert states(failed)["score_explanations"] == {"found"}
    with connect(user.folder / "catalogue") as connection:
        found = connection.execute(
            "select state, error from runs where run_id = $id", {"id": failed["run_id"]}
        ).fetchone()
    assert found is not None
    assert found[0] == "failed"
    assert "did not run" in found[1]


def test_a_corpus_that_is_not_there_is_one_sentence(user: Any, summary: dict[str, Any]) -> None:
    path = user.pipeline(
        "lost", corpus={"source": "parquet", "path": "nowhere.parquet", "text_column": "text"}
    )
    done = user.featlas("run", str(path), "--catalog", str(user.folder / "catalogue"))
    assert done.returncode == 2
    assert "computed" not in done.stdout
    assert "nowhere.parquet" in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_runs_at_once_share_the_work(user: Any, server: tuple[str, str], tmp_path: Path) -> None:
    pair = type(user)(tmp_path, *server)
    models = [{"id": "pico-b", "source": "embedded", "hookpoints": ["blocks.1.resid_post"]}]
    path = pair.pipeline(models=models, match=[])
    arguments = ("run", str(path), "--catalog", str(tmp_path / "catalogue"), "--json")
    processes = [pair.start(*arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=500) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], [err[-2000:] for _, err in outputs]
    first, second = (json.loads(out) for out, _ in outputs)
    n_units = len(first["stages"])
    assert first["n_recomputed"] + second["n_recomputed"] == n_units
    with connect(tmp_path / "catalogue") as connection:
        attempts = connection.execute(
            "select count(*), count(distinct fingerprint) from stage_runs"
        ).fetchone()
        doubled = connection.execute(
            "select count(*) - count(distinct (dictionary_id, feature_index)) from features"
        ).fetchone()
    assert attempts == (n_units, n_units)
    assert doubled == (0,)
    assert pair.featlas("verify", "--catalog", str(tmp_path / "catalogue")).returncode == 0
