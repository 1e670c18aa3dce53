"""Classes apart in latent space, and accuracy kept by labelled features: planted, shuffled, by hand."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from catalog.errors import UserError
from tasks.evaluation.suite import Subject, run_suite
from tasks.evaluation.suites.label_separation import LabelSeparationConfig, cosine_distances, silhouettes
from tasks.evaluation.suites.labelled_latents import LabelledLatentsConfig, area

LABEL = {"label": "answer"}


def measured(subject: Subject, config: Any) -> dict[tuple[str, str], dict[str, Any]]:
    rows = run_suite(subject, config).metrics.to_pylist()
    for row in rows:
        row["control"] = json.loads(row["control"]) if row["control"] else {}
    return {(row["metric"], row["variant"]): row for row in rows}


def separation(subject: Subject, **fields: Any) -> dict[str, Any]:
    return measured(subject, LabelSeparationConfig(**LABEL, **fields))["label_separation", "answer"]


def shuffled_labels(subject: Subject) -> Subject:
    order = np.random.default_rng(5).permutation(len(subject.labels))
    return replace(subject, labels=[subject.labels[place] for place in order])


@pytest.fixture
def narrow(subject: Subject, world: Any, make_dictionary: Any) -> Subject:
    """A dictionary of the label's direction and three words."""
    return replace(subject, dictionary=make_dictionary(world.directions[[0, 5, 6, 7]], 2))


def test_classes_that_a_latent_marks_lie_apart_and_shuffled_ones_do_not(narrow: Subject) -> None:
    row = separation(narrow)
    assert row["value"] > 0.3
    assert abs(row["control"]["shuffled"]) < 0.05
    assert "p = 0.005 of 199 shuffles" in row["note"]
    assert row["ci_low"] > 0
    null = separation(shuffled_labels(narrow))
    assert abs(null["value"]) < 0.1
    assert float(null["note"].split("p = ")[1].split(" ")[0]) > 0.05


def test_a_dictionary_without_the_label_does_not_separate_it(
    subject: Subject, world: Any, make_dictionary: Any
) -> None:
    row = separation(replace(subject, dictionary=make_dictionary(world.directions[5:9], 2)))
    assert abs(row["value"]) < 0.1


def test_documents_are_bounded(narrow: Subject) -> None:
    assert separation(narrow, max_documents=20)["n"] == 20


def test_silhouettes_by_their_definition() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((9, 4))
    own = np.array([0, 0, 0, 1, 1, 1, 1, 2, 0])
    distance = cosine_distances(x)
    assert distance[1, 2] == pytest.approx(1 - x[1] @ x[2] / np.linalg.norm(x[1]) / np.linalg.norm(x[2]))
    expected = []
    for i in range(9):
        others = [j for j in range(9) if j != i and own[j] == own[i]]
        if not others:
            expected.append(0.0)
            continue
        within = np.mean([distance[i, j] for j in others])
        between = min(np.mean(distance[i, own == c]) for c in range(3) if c != own[i])
        expected.append((between - within) / max(between, within))
    assert silhouettes(distance, own[:, None] == np.arange(3)) == pytest.approx(expected)


def kept(subject: Subject, labelled: Any, **fields: Any) -> dict[tuple[str, str], dict[str, Any]]:
    config = LabelledLatentsConfig(**{"m": (1, 2), **LABEL, **fields})
    return measured(replace(subject, labelled=frozenset(labelled)), config)


def test_the_label_of_the_right_feature_keeps_the_accuracy(subject: Subject) -> None:
    row = kept(subject, (0, 9, 11))["accuracy_kept", "answer:m1"]
    assert row["value"] > 0.95
    assert row["control"]["random_latents"] < 0.8
    assert row["control"]["shuffled"] < 0.75
    assert row["control"]["all_latents"] == pytest.approx(row["value"])
    assert "3 labelled features" in row["note"]


def test_labels_of_other_features_keep_no_more_than_chance(subject: Subject) -> None:
    rows = kept(subject, (9, 11, 13))
    for m in (1, 2):
        row = rows["accuracy_kept", f"answer:m{m}"]
        assert row["value"] < 0.75
        assert row["control"]["all_latents"] > 0.95


def test_shuffled_document_labels_keep_nothing(subject: Subject) -> None:
    row = kept(shuffled_labels(subject), (0, 9, 11))["accuracy_kept", "answer:m1"]
    raw = float(row["note"].split("raw accuracy ")[1].split(";")[0])
    assert abs(row["value"] * raw - 0.5) < 0.2


def test_more_features_than_have_a_label_are_left_out(subject: Subject) -> None:
    rows = kept(subject, (0, 9), m=(1, 2, 4))
    assert {variant for metric, variant in rows if metric == "accuracy_kept"} == {"answer:m1", "answer:m2"}


def test_without_labels_it_is_null_with_the_reason(subject: Subject) -> None:
    row = kept(subject, ())["accuracy_kept_area", "answer"]
    assert row["value"] is None
    assert "explain and score them first" in row["note"]


def test_an_unknown_label_is_refused(subject: Subject) -> None:
    with pytest.raises(UserError, match="label_separation: the corpus has no label 'colour'"):
        run_suite(subject, LabelSeparationConfig(label="colour"))


def test_the_area_is_the_mean_over_the_logarithm() -> None:
    """Halves of a step of log2: 0.6 to 0.8, and 0.8 to 1.0 over twice the length."""
    assert area((1, 2, 8), np.array([0.6, 0.8, 1.0])) == pytest.approx((0.7 * 1 + 0.9 * 2) / 3)
    assert area((4,), np.array([0.6])) == 0.6
