"""Every suite against a dictionary that is right, one that is wrong on purpose, and chance."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from catalog.errors import UserError
from tasks.dictionaries.base import build_dictionary, dictionary_config
from tasks.dictionaries.hookpoint_activations import HookpointActivations
from tasks.evaluation.suite import (
    SUITES,
    AnySuiteConfig,
    Metric,
    Subject,
    SuiteConfig,
    metric_table,
    run_suite,
)
from tasks.measures.evaluation import SCHEMA
from tests.tasks.evaluation.conftest import LabelledActivations

REQUIRED = {name: {"label": "answer"} for name in ("sparse_probing", "label_separation", "labelled_latents")}
OVER_DOCUMENTS = {*REQUIRED, "density_spectrum", "sequence_error"}
SMALL = {
    "sparse_probing": {"k": (1, 2)},
    "first_letter": {"max_main": 4},
    "planted_features": {"n_tokens": 40_000, "world": {"n_tokens": 20_000}, "settings": {"lr": 4e-3}},
}


def config_of(suite: str, **fields: Any) -> SuiteConfig:
    known = {"suite": suite, **REQUIRED.get(suite, {}), **SMALL.get(suite, {}), **fields}
    return TypeAdapter(AnySuiteConfig).validate_python(known)


def measured(subject: Subject, suite: str, **fields: Any) -> dict[tuple[str, str], dict[str, Any]]:
    table = run_suite(subject, config_of(suite, **fields)).metrics
    assert table.schema == SCHEMA
    rows = {(row["metric"], row["variant"]): row for row in table.to_pylist()}
    assert len(rows) == table.num_rows, "metric and variant are a key"
    for row in rows.values():
        row["control"] = json.loads(row["control"]) if row["control"] else {}
    return rows


@pytest.mark.parametrize("suite", SUITES.names())
def test_a_suite_gives_its_headline_with_version_and_control(suite: str, subject: Subject) -> None:
    twin = replace(subject, siblings=[subject.dictionary], labelled=frozenset(range(24)))
    rows = measured(twin, suite)
    headline = SUITES[suite](config_of(suite)).headline()
    assert set(headline) <= set(rows)
    for row in rows.values():
        assert row["metric_version"] >= 1
        assert row["value"] is None or row["control"], f"{row['metric']} has no control"
        assert row["value"] is not None or row["note"]
        _check_interval(suite, row)


NO_INTERVAL = {"split_latents", "density_spectrum unseen"}
"""What the definitions give no interval, see the README of the suites."""


def _check_interval(suite: str, row: dict[str, Any]) -> None:
    name = f"{row['metric']} {row['variant']}".strip()
    low, high = row["ci_low"], row["ci_high"]
    if row["value"] is None or NO_INTERVAL & {row["metric"], name}:
        assert low is None
        assert high is None
        return
    few = {("planted_absorption", "")}  # five of six parents have to be found
    if (row["metric"], row["variant"]) in few and low is None:
        return
    if suite == "density_spectrum" and low is None:
        return  # a bin whose interval the bias moves off its value
    assert low is not None, f"{name} has no interval"
    assert low - 1e-9 <= row["value"] <= high + 1e-9, f"{name}: {low} to {high} leaves out {row['value']}"
    if suite in OVER_DOCUMENTS:
        assert 30 < row["n_documents"] <= 40, "eval documents of the world, those with a special token"
    else:
        assert row["n_documents"] is None
        assert "interval over" in row["note"]


@pytest.mark.parametrize("suite", SUITES.names())
def test_a_suite_config_survives_a_round_trip(suite: str) -> None:
    config = config_of(suite)
    adapter = TypeAdapter(AnySuiteConfig)
    assert adapter.validate_python(adapter.dump_python(config, mode="json")) == config
    with pytest.raises(ValidationError, match="unknown field 'colour'"):
        config_of(suite, colour="red")


def test_an_unknown_suite_lists_the_known_ones() -> None:
    with pytest.raises(ValidationError, match=r"unknown suite 'guessing'; known: .*sparse_probing"):
        TypeAdapter(AnySuiteConfig).validate_python({"suite": "guessing"})


def test_a_null_without_a_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="null without a reason"):
        metric_table([Metric("m", "", None, 0)], 1)


def test_one_latent_that_holds_the_label_is_enough(subject: Subject) -> None:
    rows = measured(subject, "sparse_probing")
    row = rows["sparse_probe_accuracy", "answer:k1"]
    assert row["value"] > 0.99
    assert row["control"]["raw"] > 0.95
    assert row["control"]["raw_k"] < row["value"] - 0.02, "no single raw dimension holds it"
    assert row["control"]["random"] < row["value"] - 0.02
    assert 0.3 < row["control"]["shuffled"] < 0.7
    assert row["n"] == 40, "eval documents"


def test_a_dictionary_blind_to_the_label_is_at_chance(
    subject: Subject, world: Any, make_dictionary: Any
) -> None:
    blind = world.directions[1:] @ (np.eye(24) - np.outer(world.directions[0], world.directions[0]))
    rows = measured(replace(subject, dictionary=make_dictionary(blind, 4)), "sparse_probing")
    assert rows["sparse_probe_accuracy", "answer:k1"]["value"] < 0.75, "the best of 23 on 120 documents"
    assert rows["sparse_probe_accuracy", "answer:k1"]["control"]["raw"] > 0.95


def test_an_unknown_label_names_the_known_ones(subject: Subject) -> None:
    with pytest.raises(UserError, match=r"no label 'colour'; its label columns are answer"):
        run_suite(subject, config_of("sparse_probing", label="colour"))


def test_too_few_documents_are_null_with_the_reason_before_anything_is_encoded(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is fitted or encoded for a suite that cannot end in a value")

    monkeypatch.setattr("tasks.evaluation.suites.sparse_probing.fit_controls", refuse)
    monkeypatch.setattr("tasks.evaluation.suites.sparse_probing.pool_documents", refuse)
    rows = measured(subject, "sparse_probing", min_documents=1_000)
    row = rows["sparse_probe_accuracy", "answer:k1"]
    assert row["value"] is None
    assert "fewer than two values of label 'answer'" in row["note"]


def test_the_spectrum_counts_every_latent_once(subject: Subject) -> None:
    rows = measured(subject, "density_spectrum")
    assert sum(row["value"] for row in rows.values()) == pytest.approx(1)
    assert sum(row["control"]["random"] for row in rows.values()) == pytest.approx(1)
    assert rows["density_spectrum", "log10 -0.5"]["value"] > 0, (
        "letters and the label fire on every third token"
    )
    assert rows["density_spectrum", "log10 -6.0"]["value"] == 0
    common = rows["density_spectrum", "log10 -1.0"]
    assert common["ci_low"] <= common["value"] <= common["ci_high"], "letters fire in every document"
    assert common["ci_low"] < common["ci_high"]


class WithMassive(LabelledActivations):
    """The same world, one eval token of which is enormous."""

    def __init__(self) -> None:
        super().__init__()
        self.massive = np.zeros(self.words.shape, dtype=bool)
        self.massive[-1, 1] = True
        self.values[-1, 1] = 2_000 * self.directions[-1]


def test_one_massive_token_is_most_of_a_sequence_error_and_the_variant_leaves_it_out(
    subject: Subject, world: Any, make_dictionary: Any
) -> None:
    blind = make_dictionary(world.directions[:-1], 4)
    massive = WithMassive()
    special = frozenset(massive.words[-1, :2].tolist())
    with_it = replace(subject, dictionary=blind, activations=HookpointActivations.of(massive))
    rows = measured(replace(with_it, special_token_ids=special), "sequence_error")
    plain = measured(replace(subject, dictionary=blind, special_token_ids=special), "sequence_error")
    for metric in ("mse_seqmean", "mse_special"):
        every, without = rows[metric, ""], rows[metric, "without_massive"]
        assert without["n"] == every["n"] - 1
        assert every["value"] > 100 * without["value"]
        assert without["value"] == pytest.approx(plain[metric, ""]["value"], rel=0.2)
        assert without["control"]["random"] is not None
        assert without["ci_low"] < without["value"] < without["ci_high"]
        assert (metric, "without_massive") not in plain


def test_seeds_agree_with_a_permuted_copy_and_not_with_a_unrelated(
    subject: Subject, world: Any, make_dictionary: Any
) -> None:
    permuted = make_dictionary(world.directions[::-1].copy(), 4)
    rows = measured(replace(subject, siblings=[permuted]), "seed_consistency")
    assert rows["seed_mmcs", ""]["value"] == pytest.approx(1, abs=1e-5)
    assert rows["seed_shared", ""]["value"] == 1
    assert rows["seed_mmcs", ""]["control"]["random"] < 0.6
    half = world.directions.copy()
    unrelated = np.linalg.qr(np.random.default_rng(1).standard_normal((24, 24)))[0]
    half[12:] = unrelated[12:]
    rows = measured(replace(subject, siblings=[make_dictionary(half, 4)]), "seed_consistency")
    assert rows["seed_share", "above_0.9"]["value"] == pytest.approx(0.5, abs=0.01)


def test_agreement_of_decoders_alone_is_not_shared(
    subject: Subject, world: Any, make_dictionary: Any
) -> None:
    rolled = make_dictionary(world.directions, 4, encoder=np.roll(world.directions, 1, axis=0))
    rows = measured(replace(subject, siblings=[rolled]), "seed_consistency")
    assert rows["seed_share", "above_0.9"]["value"] == 1
    assert rows["seed_shared", ""]["value"] == 0


def test_the_null_of_seeds_is_no_start_of_a_training(subject: Subject) -> None:
    """The directions a dictionary begins with are random too, but must not be those of the null."""
    fields = {"architecture": "topk", "k": 4, "d_sae": 200, "n_tokens": 1}
    new, sibling = (
        build_dictionary(dictionary_config({**fields, "seed": seed}), 24).requires_grad_(False)
        for seed in (0, 1)
    )
    row = measured(replace(subject, dictionary=new, siblings=[sibling]), "seed_consistency")["seed_mmcs", ""]
    assert row["control"]["random"] == pytest.approx(row["value"], abs=0.03)
    assert row["value"] < 0.7


def test_no_sibling_is_null_with_the_reason(subject: Subject) -> None:
    row = measured(subject, "seed_consistency")["seed_mmcs", ""]
    assert row["value"] is None
    assert "only in the seed" in row["note"]


def test_planted_features_are_found_by_training_and_not_by_chance(subject: Subject) -> None:
    rows = measured(subject, "planted_features", n_tokens=300_000)
    assert rows["planted_mmcs", ""]["value"] > rows["planted_mmcs", ""]["control"]["random"] + 0.3
    assert rows["planted_recall", "independent"]["value"] > 0.7
    assert rows["planted_recall", ""]["control"]["random"] == 0
