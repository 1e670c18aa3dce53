"""What is said of a dictionary as a whole: measures in words, controls, certificate, and nothing twice."""

import json
from typing import Any

import pytest

from dashboards.components import dictionary_parts, measures
from dashboards.components.markup import strings

POINTS = [{"model_id": "m", "hookpoint": "blocks.1.mlp_in"}]
ROW: dict[str, Any] = {
    "dictionary_id": "m/blocks.1.mlp_in/topk-x8-k16-s0-12345678",
    "architecture": "skip_transcoder",
    "origin": "trained",
    "verified": True,
    "unit_type": "latent",
    "d_sae": 2048,
    "reads": POINTS,
    "writes": [{"model_id": "m", "hookpoint": "blocks.1.mlp_out"}],
    "config": json.dumps({"k": 16, "lr": 0.004, "n_tokens": 2_000_000, "secret": "not shown"}),
    "activation_set_id": "m/blocks.1.mlp_in-00000001",
    "created_at": None,
    "fvu": 0.2,
    "fvu_control": None,
    "fvu_frozen_decoder": None,
    "fvu_random_model": None,
    "parent_dictionary_id": None,
    "l0": 16.0,
}


def metric(name: str, value: float | None, variant: str = "", **other: Any) -> dict[str, Any]:
    known = {"control": None, "note": None, "n": 4_096, "metric_version": 1}
    return {"dictionary_id": ROW["dictionary_id"], "metric": name, "variant": variant, "value": value} | (
        known | other
    )


def said(row: dict[str, Any], metrics: list[dict[str, Any]]) -> str:
    """All text about a dictionary, in order."""
    return " ".join(text for part in dictionary_parts.about(row, metrics) for text in strings(part))


def test_it_tells_where_it_reads_and_writes_and_how_it_was_trained() -> None:
    text = said(ROW, [])
    for expected in (
        "blocks.1.mlp_in",
        "blocks.1.mlp_out",
        "k = 16, n_tokens = 2\u202f000\u202f000, lr = 0.004",
        "2\u202f048",
    ):
        assert expected in text, expected
    assert "secret" not in text


def test_settings_of_a_training_that_was_elsewhere_are_not_made_up() -> None:
    config = json.dumps({"k": 16, "n_tokens": 1, "imported": {"format": "saelens"}})
    text = said({**ROW, "origin": "imported", "config": config}, [])
    assert "n_tokens" not in text
    assert "imported, format saelens" in text
    assert "There is no import certificate" in text


def test_missing_values_of_one_reason_share_a_line() -> None:
    rows = [metric("ce_recovered", None, "mean_ablation", note="why"), metric("kl", None, note="why")]
    assert "CE recovered; KL – why" in said(ROW, rows)


def test_values_stand_with_units_and_controls() -> None:
    control = json.dumps({"k": 16, "pca": 0.31, "random": 0.94})
    metrics = [
        metric("fvu", 0.112, control=control),
        metric("fvu", 0.83, "latents_zero"),
        metric("delta_ce", 0.042),
        metric("unseen_share", 0.25),
        metric("l0", 31.0, "p95"),
        metric("absorption_fraction", 0.07, control=json.dumps({"random": 0.4})),
    ]
    text = said(ROW, metrics)
    for expected in (
        "FVU 0.112 PCA 0.310, random dictionary 0.940 4\u202f096",
        "FVU, skip path only 0.830",
        "CE added 0.0420 nats",
        "silent on eval tokens 25.0 %",
        "absorbed 7.00 % random dictionary 40.0 %",
    ):
        assert expected in text, expected
    assert "31.0" not in text, "a quantile is not the mean"


def test_a_missing_value_says_why() -> None:
    assert "KL – no language model was given" in said(
        ROW, [metric("kl", None, note="no language model was given")]
    )


def test_a_measure_nobody_described_is_shown_under_its_own_name() -> None:
    text = said(ROW, [metric("a_new_measure", 4.25, "at_noon")])
    assert "Further measures" in text
    assert "a new measure, at noon 4.25" in text


def test_densities_are_drawn_from_rare_to_frequent() -> None:
    bins = ["log10 -0.5", "unseen", "log10 -3.0"]
    text = said(ROW, [metric("density_spectrum", 1 / 3, name) for name in bins])
    assert "never 33 %" in text
    assert text.index("never") < text.index("0.10 % to 0.32 %") < text.index("32 % to 100 %")


@pytest.mark.parametrize("verified", [True, False])
def test_a_certificate_tells_the_verdict_and_other_readings(verified: bool) -> None:
    why = None if verified else "its FVU is too high"
    metrics = [
        metric("import_fvu", 0.61, note=why, control=json.dumps({"random": 0.9})),
        metric("import_l0", 15.0),
        metric("import_unseen_share", 0.125),
    ]
    others = [("hookpoint=blocks.1.resid_post", 0.12), ("b_dec=kept", 0.7), ("scale=odd", None)]
    metrics += [
        metric("import_fvu", value, variant, note="the same file read otherwise, L0 14.5")
        for variant, value in others
    ]
    text = said({**ROW, "origin": "imported", "verified": verified}, metrics)
    for expected in (
        "4\u202f096 tokens, 12.5 % of features silent on them, FVU of a random dictionary 0.900",
        "as it was imported 0.610 15.0",
        "0.120 14.5",
    ):
        assert expected in text, expected
    assert ("its FVU is too high" in text, "unverified" in text) == (not verified, not verified)
    assert text.index("blocks.1.resid_post") < text.index("b_dec=") < text.index("scale=")
    assert "Further" not in text


def test_two_dictionaries_stand_side_by_side() -> None:
    other = {**ROW, "dictionary_id": "other-12345678", "architecture": "pca", "origin": "baseline"}
    metrics = [
        metric("fvu", 0.1),
        {**metric("fvu", 0.3), "dictionary_id": "other-12345678"},
        metric("kl", 0.5),
    ]
    text = " ".join(strings(dictionary_parts.quality(ROW, other, metrics)))
    assert "pca (baseline)" in text
    assert "FVU 0.100 0.300" in text
    assert "KL 0.500 nats –" in text


def test_every_measure_of_the_pages_has_a_definition() -> None:
    assert all(measure.help.endswith(".") for measure in (*measures.CORE, *measures.SUITES))


def test_a_measure_has_its_interval_and_its_form_without_massive_tokens() -> None:
    shared = {"metric": "fvu", "n": 40, "note": None, "control": None}
    rows = [
        {**shared, "variant": "", "value": 0.19, "ci_low": 0.124, "ci_high": 0.31},
        {**shared, "variant": "without_massive", "value": 0.291, "ci_low": None, "ci_high": None},
        {**shared, "metric": "l0", "variant": "without_massive", "value": 16.0},
    ]
    found = {line.name: line.value for line in measures.lines(rows, measures.CORE)}
    assert found == {
        "FVU": "0.190 (0.124–0.310)",
        "FVU, without massive tokens": "0.291",
        "L0, without massive tokens": "16.0",
    }
