"""Scorers that measure: an explanation that means the feature scores high, one that does not is chance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.autointerp.records import read_evidence
from tasks.autointerp.runner import Scored, score
from tasks.autointerp.scorer import SCORERS
from tests.tasks.autointerp.local_folders import known_encoder, random_encoder
from tests.tasks.autointerp.planted import distinct, features
from tests.tasks.autointerp.test_client import IDS
from tests.tasks.autointerp.test_judging import explanations

N = 24
WORDS = tuple(f"feat{i}" for i in range(N))
OTHERS = ("some", "words", *(f"none{i}" for i in range(N)), *(f"number{i}" for i in range(12)))


def run(
    folder: Path,
    texts: Sequence[str] | None = None,
    n: int = N,
    examples: pa.Table | None = None,
    **fields: Any,
) -> Scored:
    shown = distinct(n) if examples is None else examples
    config = SCORERS[fields["scorer"]].Config.model_validate(fields)
    told = explanations(n)
    if texts is not None:
        told = told.set_column(told.schema.get_field_index("text"), "text", pa.array(texts))
    return score(read_evidence(features(n), [shown]), told, config, scratch=folder / "scratch", **IDS)


def areas(scored: Scored, variant: str = "mixed") -> list[dict[str, Any]]:
    rows = scored.scores.to_pylist()
    assert {row["metric"] for row in rows} == {"auroc"}
    assert {row["answered_by"] for row in rows if row["value"] is not None} <= {"measure"}
    return [row for row in rows if row["variant"] == variant]


def test_an_encoder_that_knows_the_word_scores_one_and_other_labels_a_half(tmp_path: Path) -> None:
    encoder = known_encoder(tmp_path / "known", (*WORDS, *OTHERS))
    scored = run(tmp_path, scorer="embedding", model=str(encoder))
    rows = areas(scored)
    assert {(row["value"], row["chance"], row["above_chance"]) for row in rows} == {(1.0, 0.5, True)}
    assert {row["judge"] for row in rows} == {"known"}
    judged = scored.judgements.to_pylist()
    assert {row["answer"] for row in judged} == {None}
    fired = {round(row["margin"], 6) for row in judged if row["truth"]}
    silent = {round(row["margin"], 6) for row in judged if not row["truth"]}
    assert fired == {round(1 / 2, 6)}, "one of four words of a context is known and meant"
    assert silent == {0.0}


def test_shuffled_labels_are_not_above_chance(tmp_path: Path) -> None:
    """Each feature has the label of the next one; a random encoder knows as little."""
    known = known_encoder(tmp_path / "known", (*WORDS, *OTHERS))
    wrong = [f"the token feat{(i + 1) % N}" for i in range(N)]
    assert {
        (row["value"], row["above_chance"])
        for row in areas(run(tmp_path / "a", wrong, scorer="embedding", model=str(known)))
    } == {(0.5, False)}


def test_the_prefixes_are_put_before_the_texts(tmp_path: Path) -> None:
    """With the word of another feature before every explanation all of them mean that word as well."""
    encoder = known_encoder(tmp_path / "known", (*WORDS, *OTHERS))
    plain = {"scorer": "embedding", "model": str(encoder), "shuffles": 0}
    said = run(tmp_path / "a", ["nothing"] * N, query_prefix="feat0 ", **plain)
    assert [row["value"] for row in areas(said)] == [1.0] + [0.5] * (N - 1)
    both = run(tmp_path / "b", ["nothing"] * N, query_prefix="feat0 ", passage_prefix="feat0 ", **plain)
    assert areas(both)[1]["value"] == 0.5
    assert {round(row["margin"], 4) for row in both.judgements.to_pylist()} == {0.4472, 0.7559}


def test_a_random_encoder_has_no_opinion_of_the_label(tmp_path: Path) -> None:
    """It separates the contexts by their words, with the feature's label and with any other."""
    encoder = random_encoder(tmp_path / "random", (*WORDS, *OTHERS))
    rows = areas(run(tmp_path, scorer="embedding", model=str(encoder)))
    assert np.mean([bool(row["above_chance"]) for row in rows]) <= 0.2


TEXT = """import return class while lambda print yield global table water money horse letter window garden
music number string river doctor winter button market circle"""
ENGLISH = TEXT.split()


def quoted() -> pa.Table:
    """The contexts of ``distinct`` with a word of each feature's own, and another's where it is silent."""
    rows = distinct(N).to_pylist()
    for row in rows:
        place = row["feature_index"] + (0 if row["max_activation"] else N // 2)
        row["tokens"][2] = f" {ENGLISH[place % N]}"
    return pa.Table.from_pylist(rows)


def test_surprisal_finds_the_word_that_a_label_quotes(tmp_path: Path) -> None:
    """A trained model expects a word again that the prompt holds; a label without it says nothing."""
    fields = {"scorer": "surprisal", "model": "pico-a", "n_firing": 8, "examples": quoted()}
    own = areas(run(tmp_path / "a", [f"{word} and {word}" for word in ENGLISH], **fields))
    assert np.mean([row["value"] for row in own]) > 0.85
    assert np.mean([row["chance"] for row in own]) == pytest.approx(0.5, abs=0.1)
    assert np.mean([bool(row["above_chance"]) for row in own]) > 0.5
    shifted = [f"{ENGLISH[(i + 5) % N]} and {ENGLISH[(i + 5) % N]}" for i in range(N)]
    wrong = areas(run(tmp_path / "b", shifted, **fields))
    assert np.mean([row["value"] for row in wrong]) == pytest.approx(0.5, abs=0.15)
    alike = areas(run(tmp_path / "c", ["various things"] * N, **fields))
    assert not any(row["above_chance"] for row in alike)


@pytest.mark.parametrize("scorer", ["embedding", "surprisal"])
def test_a_feature_with_items_of_one_class_has_a_row_without_a_value(tmp_path: Path, scorer: str) -> None:
    model = str(known_encoder(tmp_path / "known", WORDS)) if scorer == "embedding" else "pico-a"
    scored = run(tmp_path, n=2, scorer=scorer, model=model, n_random=0, n_neighbour=0)
    assert [(row["value"], row["n"]) for row in areas(scored)] == [(None, 0)] * 2
