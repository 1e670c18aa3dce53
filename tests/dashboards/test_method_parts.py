"""The method section of the feature page shows what the method knows, and nothing else."""

from typing import Any

import pytest

from dashboards.components.markup import Element, strings
from dashboards.components.method_parts import hookpoints, method, reads_and_writes

HERE = [{"model_id": "m", "hookpoint": "blocks.1.mlp_in"}]
SILENT: dict[str, Any] = {
    "dictionary_id": "d",
    "architecture": "topk",
    "reads": HERE,
    "writes": HERE,
    **dict.fromkeys(
        (
            "feature_group",
            "parent_feature",
            "selection_step",
            "dfa_offset",
            "dfa_entropy",
            "threshold",
            "special_share",
            "head_shares",
            "site_norms",
            "relative_norm",
            "error_ratio",
            "reconstruction_ratio",
        )
    ),
}


def words(section: Element) -> str:
    """All text of a section, in order."""
    return " ".join(strings(section))


def test_a_method_without_facts_has_no_section() -> None:
    assert method(SILENT, {}) is None


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"feature_group": 0}, ["group", "0"]),
        ({"parent_feature": 3}, ["parent", "#3", "two <words>"]),
        ({"selection_step": 1.5}, ["selection step", "1.5"]),
        ({"special_share": 0.25}, ["on special tokens", "25"]),
        (
            {"dfa_offset": -1, "dfa_entropy": 0.25},
            ["reads from", "1 token before", "source entropy", "0.250 nats"],
        ),
        ({"dfa_offset": 0}, ["the token itself"]),
        ({"dfa_offset": -12}, ["12 tokens before"]),
        ({"head_shares": [0.1, 0.9]}, ["head 1", "90", "head 0"]),
        ({"relative_norm": 0.5}, ["relative norm", "0.5"]),
    ],
)
def test_each_fact_is_shown(facts: dict[str, Any], shown: list[str]) -> None:
    section = method({**SILENT, **facts}, {("d", 3): "two <words>"})
    assert section is not None
    text = words(section)
    assert all(part in text for part in shown), text


def test_the_group_of_a_cross_layer_transcoder_is_the_hookpoint_it_reads() -> None:
    reads = [{"model_id": "m", "hookpoint": f"blocks.{layer}.mlp_in"} for layer in (1, 2)]
    section = method(
        {**SILENT, "architecture": "cross_layer_transcoder", "reads": reads, "feature_group": 1}, {}
    )
    assert section is not None
    assert "reads blocks.2.mlp_in" in words(section)


def test_heads_come_strongest_first() -> None:
    section = method({**SILENT, "head_shares": [0.2, 0.7, 0.1]}, {})
    assert section is not None
    text = words(section)
    assert text.index("head 1") < text.index("head 0") < text.index("head 2")


def test_norms_are_named_by_hookpoint_and_model() -> None:
    writes = [{"model_id": name, "hookpoint": "blocks.1.resid_post"} for name in ("base", "tuned")]
    section = method({**SILENT, "reads": writes, "writes": writes, "site_norms": [0.4, 1.2]}, {})
    assert section is not None
    assert "tuned blocks.1.resid_post" in words(section)
    assert hookpoints(writes) == ["base blocks.1.resid_post", "tuned blocks.1.resid_post"]


def test_provenance_tells_reads_and_writes_apart() -> None:
    there = [{"model_id": "m", "hookpoint": "blocks.1.mlp_out"}]
    assert reads_and_writes(SILENT) == [("hookpoint", "blocks.1.mlp_in")]
    assert reads_and_writes({**SILENT, "writes": there}) == [
        ("reads", "blocks.1.mlp_in"),
        ("writes", "blocks.1.mlp_out"),
    ]
