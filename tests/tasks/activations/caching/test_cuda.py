"""On a CUDA device caching gives what it gives on the CPU; asked for without a device, this fails."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.activations.caching.cache import ActivationsConfig, cache_activations
from tasks.activations.models.language_model import LanguageModel, ModelConfig, load_language_model

pytestmark = pytest.mark.gpu
HOOKPOINTS = ("blocks.1.resid_post", "blocks.0.mlp_act")


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "bert"])
@pytest.mark.parametrize("packing", ["block", "per_document"])
def test_cuda_agrees_with_the_cpu(
    model_config: Callable[[str], ModelConfig],
    language_model: Callable[[str], LanguageModel],
    corpus: SimpleNamespace,
    tmp_path: Path,
    family: str,
    packing: str,
) -> None:
    config = ActivationsConfig(
        hookpoints=HOOKPOINTS,
        context_length=32,
        n_tokens=1_500,
        packing=packing,  # type: ignore[arg-type]
        dtype="float32",
    )
    on_cuda = load_language_model(model_config(family), "cuda")
    cached = cache_activations(on_cuda, corpus, config, tmp_path / "cuda")
    expected = cache_activations(language_model(family), corpus, config, tmp_path / "cpu")
    for name in HOOKPOINTS:
        ours, theirs = cached.open(name), expected.open(name)
        assert np.array_equal(ours.tokens.valid, theirs.tokens.valid)
        rows = theirs.sequence_rows()
        np.testing.assert_allclose(ours.read(rows), theirs.read(rows), atol=2e-3, rtol=2e-3)
