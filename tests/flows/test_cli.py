"""The command line: exit codes, one-sentence errors, formats."""

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from catalog.contained import ContainedResult
from catalog.errors import UserError
from flows.cli import entry, main
from flows.commands.show import visible
from flows.commands.sql import FORMATS, sql_command


def featlas(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["featlas", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["run", "dmeo"], "there is no pipeline 'dmeo'"),
        (["run", "demo", "--stage", "trane"], "there is no stage 'trane'; stages are load_corpus"),
        (["run", "demo", "--set", "dictionaries.0.kk=1"], "unknown field 'kk'"),
        (["sql", "select 1", "--format", "xml"], "there is no format 'xml'"),
        (["sql", "select 1", "--format", "parquet"], "name a file with --output"),
        (["sql", "select * from nowhere"], "nowhere"),
        (["sql", "drop table runs"], ""),
        (["show", "no-index"], "is not of the form DICTIONARY#FEATURE_INDEX"),
        (["show", "nobody#1"], "there is no dictionary 'nobody'"),
        (["verify"], "there is no catalogue at"),
        (["deploy"], "PREFECT_API_URL is not set"),
        (["ui", "--catalog", "s3://bucket"], "is not a local folder"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    fragment: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FEATLAS_CATALOG", str(tmp_path / "none"))
    monkeypatch.setenv("FEATLAS_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert featlas(monkeypatch, *arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("featlas: ")
    assert fragment in said.err
    assert said.err.count("\n") == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATLAS_DEBUG", "")  # so that what the flag sets goes away with this test
    monkeypatch.setattr(sys, "argv", ["featlas", "show", "nothing", "--debug"])
    with pytest.raises(UserError):
        main()


def test_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert featlas(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    commands = ("run", "sql", "show", "ui", "up", "deploy", "verify", "repair", "doctor")
    assert [command for command in commands if f" {command} " not in said] == []


RESULT = ContainedResult(
    columns=["name", "value", "tokens", "at"],
    types=["VARCHAR", "DOUBLE", "VARCHAR[]", "TIMESTAMP"],
    rows=[
        ("a\u202eb,\n", 0.25, ["x", "y"], datetime(2026, 1, 2, tzinfo=UTC)),
        (None, 12.0, None, None),
    ],
    seconds=0.1,
    truncated=False,
)


def test_rows_as_a_table_show_control_characters_and_align_numbers() -> None:
    head, rule, first, second, foot = FORMATS["table"](RESULT).decode().splitlines()
    assert head.split() == ["name", "value", "tokens", "at"]
    assert set(rule) == {"-", " "}
    assert first.startswith("a\\u202eb,\\n")
    assert second.index("12") > first.index("0.25")
    assert foot == "2 rows in 0.10 s"


def test_rows_as_csv_and_json() -> None:
    assert (
        FORMATS["csv"](RESULT)
        .decode()
        .startswith('name,value,tokens,at\n"a\u202eb,\n",0.25,"[""x"", ""y""]"')
    )
    rows = json.loads(FORMATS["json"](RESULT))
    assert rows[0]["tokens"] == ["x", "y"]
    assert rows[0]["at"] == "2026-01-02T00:00:00+00:00"
    assert rows[1] == {"name": None, "value": 12.0, "tokens": None, "at": None}


def test_rows_as_parquet_go_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    query = "select range as n, n::varchar as text from range(3)"
    sql_command(query, str(tmp_path / "catalogue"), "parquet", path, 1_000)
    assert pq.read_table(path).to_pylist() == [{"n": n, "text": str(n)} for n in range(3)]


def read_back(format_: str, path: Path) -> list[list[object]]:
    """Column names and rows of a file that ``featlas sql`` wrote, values as text."""
    if format_ == "parquet":
        table = pq.read_table(path)
        return [list(table.column_names), *([str(v) for v in row.values()] for row in table.to_pylist())]
    if format_ == "json":
        rows = json.loads(path.read_text(), object_pairs_hook=list)
        return [[name for name, _ in rows[0]], *([str(value) for _, value in row] for row in rows)]
    if format_ == "csv":
        return [list(row) for row in csv.reader(path.open())]
    return [list(line.split()) for line in path.read_text().splitlines() if "--" not in line][:-1]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_keeps_columns_of_one_name(format_: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    query = "select 1 as a, 2 as a, 3 as a_2, 4 as a, 5 as b"
    sql_command(query, str(tmp_path / "catalogue"), format_, path, 10)
    assert read_back(format_, path) == [["a", "a_3", "a_2", "a_4", "b"], ["1", "2", "3", "4", "5"]]


ODD_VALUES = (
    "'nan'::double",
    "'-inf'::float",
    "['nan'::double, 1]",
    "{'x': 'inf'::double}",
    "map {1: 'a'}",
    "map {[1]: 'a'}",
    "map {'2020-01-01'::date: 1}",
    "'\\xff'::blob",
    "170141183460469231731687303715884105727::hugeint",
    "12345678901234567890.123456789::decimal(38, 9)",
    "interval 1 day",
    "'12:30'::time",
    "'2020-01-01 00:00:00+00'::timestamptz",
    "'infinity'::date",
    "uuid()",
    "'101'::bit",
    "null",
    "union_value(x := 1)",
    "chr(0) || chr(27) || chr(8238)",
)


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_writes_every_kind_of_value(format_: str, tmp_path: Path) -> None:
    """Mixed kinds too: each value stands once alone and once with others in one list."""
    path = tmp_path / "rows"
    columns = ", ".join(f"{value} as c{number}" for number, value in enumerate(ODD_VALUES))
    sql_command(f"select {columns}", str(tmp_path / "catalogue"), format_, path, 10)
    if format_ == "json":
        row = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))[0]
        assert (row["c0"], row["c1"], row["c2"], row["c3"]) == (None, None, [None, 1.0], {"x": None})
        assert list(row) == [f"c{number}" for number in range(len(ODD_VALUES))]
    assert path.stat().st_size > 0


def test_a_cut_result_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql_command("from range(50)", str(tmp_path), "csv", None, 10)
    said = capsys.readouterr()
    assert said.out.count("\n") == 11
    assert "only the first 10 rows" in said.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" def", "·def"), ("\n   ", "\\n·"), ("   ", "···"), ("a\u200bb", "a\\u200bb"), ("אב", "אב")],
)
def test_a_token_is_shown_on_one_line(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_doctor_says_what_fails_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "featlas.toml").write_text(
        '[endpoints.judge]\nbase_url = "https://llm.example/v1"\nmodel = "m"\n'
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    environment |= {"PREFECT_API_URL": "http://127.0.0.1:9/api", "FEATLAS_STATE": str(tmp_path / "state")}
    command = [sys.executable, "-m", "flows.cli", "doctor", "--catalog", str(tmp_path / "catalogue")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert done.returncode == 1
    assert lines["prefect"].startswith("FAILS")
    assert "featlas up" in lines["prefect"]
    assert "FEATLAS_ENDPOINT_JUDGE_API_KEY" in lines["llm"]
    assert lines["catalogue"].startswith("ok")


def test_a_pipeline_of_ones_own_runs_by_path_only_if_it_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "yours"}))
    monkeypatch.setenv("FEATLAS_STATE", str(tmp_path / "state"))
    assert featlas(monkeypatch, "run", str(path)) == 2
    assert "pipeline mine.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "restarts"), [("run", 1), ("import", 1), ("sql", 0), ("doctor", 0)])
def test_commands_that_run_models_start_with_a_steady_allocator(
    command: str, restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        "tasks.common.allocator.restart_with_steady_allocator", lambda: seen.append("restart")
    )
    monkeypatch.setattr(sys, "argv", ["featlas", command, "--help"])
    with pytest.raises(SystemExit):
        entry()
    assert len(seen) == restarts
