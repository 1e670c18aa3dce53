"""Which of several rows is current: the one of the latest commit, whatever the clocks said."""

from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from catalog import queries
from catalog.connection import connect
from catalog.slices import SliceWrite
from catalog.store import publish_rows


def ask(root: Path, sql: str) -> list[tuple[Any, ...]]:
    with connect(root) as connection:
        return connection.execute(sql).fetchall()


def test_aliases_mean_the_dictionary_they_were_last_given(root: Path, small: ModuleType) -> None:
    from catalog.errors import UserError
    from catalog.resolve import resolve_dictionary

    alias = small.DICTIONARY[:-9]
    newer = f"{alias}-ffffffff"
    small.do_stage(root)
    with connect(root) as connection:
        assert resolve_dictionary(connection, alias) == small.DICTIONARY
    rows = [
        {"alias": alias, "valid_from": small.NOW + timedelta(hours=hour), "dictionary_id": dictionary}
        for hour, dictionary in ((0, small.DICTIONARY), (1, newer))
    ]
    publish_rows(
        root,
        [
            SliceWrite("aliases", alias, small.table("aliases", rows)),
            SliceWrite("dictionaries", newer, small.dictionary(newer)),
        ],
        fingerprint="a",
    )
    with connect(root) as connection:
        assert resolve_dictionary(connection, alias) == newer
        assert resolve_dictionary(connection, small.DICTIONARY) == small.DICTIONARY
        with pytest.raises(UserError, match=f"close names are .*{alias}"):
            resolve_dictionary(connection, alias[:-1])


@pytest.mark.parametrize("hours", [-2, 2])
def test_what_was_committed_last_is_current_whatever_the_clocks_said(
    root: Path, small: ModuleType, hours: int
) -> None:
    """Everything is written twice, the second time on a clock that went ``hours`` further."""
    small.do_stage(root)
    alias = small.DICTIONARY[:-9]
    for number, at in enumerate((small.NOW, small.NOW + timedelta(hours=hours))):
        other = f"{alias}-{number:08d}"
        named = {"alias": alias, "valid_from": at, "dictionary_id": other}
        text = {**small.explanations(n=1).to_pylist()[0], "created_at": at}
        text |= {"explanation_id": f"t{number}", "text": f"text {number}"}
        again = small.score("t0", "random", 0.5 + number / 10, seed=number, created_at=at)
        publish_rows(
            root,
            [
                SliceWrite("aliases", alias, small.table("aliases", [named])),
                SliceWrite("explanations", f"s{number}", small.table("explanations", [text])),
                SliceWrite("scores", f"s{number}", small.table("scores", [again])),
                SliceWrite("runs", f"r{number}", small.run(f"r{number}", started_at=at)),
                SliceWrite("dictionaries", other, small.dictionary(other, alias="unset", created_at=at)),
            ],
            fingerprint=f"f{number}",
        )
    newest = f"{alias}-00000001"
    assert ask(root, "select dictionary_id from current_aliases") == [(newest,)]
    assert ask(root, "select text from latest_explanations where feature_index = 0") == [("text 1",)]
    assert ask(root, "select label from feature_cards where feature_index = 0") == [("text 1",)]
    assert ask(root, "select value from latest_scores") == [(0.6,)]
    assert ask(root, "select distinct run_id from freshness where table_name = 'features'") == [(None,)]
    assert ask(root, "select max_by(committed_in, place) from commit_order") == [(3,)]
    with connect(root) as connection:
        from catalog.resolve import resolve_dictionary

        assert resolve_dictionary(connection, "unset") == newest


@pytest.mark.parametrize("hours", [1, -1])
def test_the_last_run_is_the_last_that_came(root: Path, small: ModuleType, hours: int) -> None:
    """Whatever the clocks said; a run keeps the place of its first row when it ends."""
    later = small.NOW + timedelta(hours=hours)
    for run_id, state, at in (
        ("r0", "running", small.NOW),
        ("r1", "running", later),
        ("r1", "completed", later),
        ("r0", "completed", small.NOW),
    ):
        ended = None if state == "running" else at + timedelta(minutes=1)
        row = small.run(run_id, state, started_at=at, finished_at=ended)
        publish_rows(root, [SliceWrite("runs", run_id, row)], fingerprint=f"{run_id} {state}")
    with connect(root) as connection:
        shown = queries.runs(limit=5).read(connection)
        assert shown["run_id"].to_pylist() == ["r1", "r0"]
        assert shown["state"].to_pylist() == ["completed", "completed"]


@pytest.mark.parametrize("hours", [1, -1])
def test_what_changed_is_of_the_run_that_finished_last(root: Path, small: ModuleType, hours: int) -> None:
    for number, at in enumerate((small.NOW, small.NOW + timedelta(hours=hours))):
        name = f"{small.DICTIONARY[:-9]}-{number:08d}"
        stage = {
            "attempt": 1,
            "stage": "train_dictionary",
            "stage_version": 1,
            "label": name,
            "run_id": f"r{number}",
            "state": "committed",
            "lease_token": 1,
            "parents": [],
            "config": "{}",
            "rows": 1,
            "bytes": 1,
            "seconds": 1.0,
            "started_at": at,
            "finished_at": at,
            "code_version": "0",
            "facts": "{}",
        }
        publish_rows(
            root,
            [
                SliceWrite("runs", f"r{number}", small.run(f"r{number}", started_at=at)),
                SliceWrite("dictionaries", name, small.dictionary(name, created_at=at)),
                SliceWrite("stage_runs", f"f{number}", small.table("stage_runs", [stage])),
            ],
            fingerprint=f"f{number}",
        )
    with connect(root) as connection:
        changed = queries.changes().read(connection).to_pylist()
    assert [row["dictionary_id"][-8:] for row in changed if row["kind"] == "new_dictionary"] == ["00000001"]


def test_a_unit_that_was_replaced_is_not_done_whatever_the_clocks_said(
    root: Path, small: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import catalog.staging

    class Earlier(catalog.staging.datetime):  # type: ignore[misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) - timedelta(hours=2)

    small.do_stage(root, 0)
    monkeypatch.setattr(catalog.staging, "datetime", Earlier)
    small.do_stage(root, 1)
    assert not small.do_stage(root, 1)
    assert small.do_stage(root, 0), "generation 1 took its place"
