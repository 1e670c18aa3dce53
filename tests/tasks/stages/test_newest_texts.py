"""Which text of a feature is scored, when a unit explains again and the clock went back meanwhile."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import catalog.claims
from catalog.connection import connect
from catalog.ledger import Ledger
from catalog.slices import SliceWrite
from catalog.store import publish_rows
from tasks.support.stored import landed_beside, newest_texts, with_earlier
from tests.catalog import small

UNIT = "f" * 64


def explain(root: Path, text: str, at: object) -> None:
    row = small.explanations(n=1).to_pylist()[0] | {"explanation_id": text, "text": text, "created_at": at}
    rows = with_earlier(root, UNIT, "explanations", small.table("explanations", [row]))
    publish_rows(root, [SliceWrite("explanations", "lexical of d", rows)], fingerprint=UNIT)


@pytest.mark.parametrize("hours", [2, 0, -2])
def test_the_text_that_came_last_is_scored_and_shown(tmp_path: Path, hours: int) -> None:
    explain(tmp_path, "first", small.NOW)
    explain(tmp_path, "second", small.NOW + timedelta(hours=hours))
    explain(tmp_path, "second", small.NOW + timedelta(hours=hours))
    assert newest_texts(tmp_path, UNIT)["text"].to_pylist() == ["second"]
    with connect(tmp_path) as connection:
        shown = connection.execute("select text from latest_explanations").fetchall()
        n_rows = connection.execute("select count(*) from explanations").fetchall()
    assert shown == [("second",)]
    assert n_rows == [(2,)]


def test_rows_of_an_earlier_attempt_keep_their_times(tmp_path: Path) -> None:
    explain(tmp_path, "first", small.NOW)
    row = small.explanations(n=1).to_pylist()[0]
    both = [row | {"explanation_id": t, "text": t, "created_at": small.NOW} for t in ("first", "second")]
    merged = with_earlier(tmp_path, UNIT, "explanations", small.table("explanations", both)).to_pylist()
    assert {one["text"]: one["created_at"] - small.NOW for one in merged} == {
        "first": timedelta(0),
        "second": timedelta(microseconds=1),
    }


@pytest.mark.parametrize("hours", [2, -2])
def test_a_name_means_what_came_last(tmp_path: Path, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"corpus_id": "c", "reads": [{"model_id": "m", "hookpoint": "h"}], "writes": []}
    for number in range(2):

        class Shifted(catalog.claims.datetime):  # type: ignore[misc]
            ahead = timedelta(hours=hours * number)

            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return super().now(tz) + cls.ahead

        with (
            monkeypatch.context() as patch,
            Ledger(tmp_path).claim("train_dictionary", 1, "a", {"n": number}, []) as mine,
        ):
            patch.setattr(catalog.claims, "datetime", Shifted)
            row = small.dictionary(f"a-{number:08d}", alias="a")
            mine.commit(
                [SliceWrite("dictionaries", f"a-{number:08d}", row)],
                facts=facts | {"alias": "a", "n": number},
            )
    beside = landed_beside(tmp_path, facts | {"alias": "other"})
    assert [outcome.facts["n"] for outcome in beside] == [1]
