"""Dictionaries of a pipeline that say where they read and write."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from catalog.errors import UserError
from flows.config import PipelineConfig, load_pipeline

SIZES = {"d_sae": 32, "n_tokens": 100}
TRANSCODER = {"architecture": "topk_transcoder", "k": 2, "reads": ["blocks.1.mlp_in"], **SIZES}
DIFF = {"architecture": "crosscoder", "l1_coefficient": 1, "reads": ["blocks.2.resid_post"], **SIZES}


def pipeline(folder: Path, *dictionaries: dict[str, Any]) -> PipelineConfig:
    path = folder / "places.yaml"
    sections = {
        "name": "places",
        "corpus": {"source": "stdlib"},
        "models": [
            {"id": "pico-a", "source": "embedded"},
            {"id": "pico-b", "source": "embedded", "hookpoints": ["blocks.2.resid_post"]},
        ],
        "activations": {
            "context_length": 64,
            "n_tokens": 1_000,
            "hookpoints": ["blocks.2.resid_post", "blocks.1.mlp_in", "blocks.1.mlp_out", "blocks.2.mlp_out"],
        },
        "dictionaries": list(dictionaries),
    }
    path.write_text(yaml.safe_dump(sections))
    return load_pipeline(str(path))


def test_the_same_method_may_stand_at_several_places(tmp_path: Path) -> None:
    first, second = (
        {**TRANSCODER, "writes": ["blocks.1.mlp_out"]},
        {**TRANSCODER, "writes": ["blocks.2.mlp_out"]},
    )
    config = pipeline(tmp_path, first, second, {**DIFF, "models": ["pico-a", "pico-b"]})
    names = [dictionary.hookpoints_name for dictionary in config.dictionaries]
    assert names == [
        "blocks.1.mlp_in-to-mlp_out",
        "blocks.1.mlp_in-to-blocks.2.mlp_out",
        "blocks.2.resid_post",
    ]
    with pytest.raises(UserError, match="mlp_in-to-mlp_out topk_transcoder-w32-k2-s0' is listed twice"):
        pipeline(tmp_path, first, first)


@pytest.mark.parametrize(
    ("dictionary", "words"),
    [
        ({**TRANSCODER, "writes": ["blocks.7.mlp_out"]}, "needs blocks.7.mlp_out, which is not cached"),
        ({**DIFF, "models": ["pico-a", "pico-c"]}, "reads model 'pico-c'; models: pico-a, pico-b"),
        ({**DIFF, "models": ["pico-a", "pico-b"], "reads": ["blocks.1.mlp_in"]}, "needs blocks.1.mlp_in"),
        (TRANSCODER, "reads one hookpoint and writes another: give both"),
        ({**DIFF, "models": ["pico-a", "pico-a"]}, "crosscoder reconstructs several hookpoints together"),
    ],
)
def test_hookpoints_that_cannot_work_are_refused_before_anything_runs(
    tmp_path: Path, dictionary: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as refused:
        pipeline(tmp_path, dictionary)
    assert "\n" not in str(refused.value)
