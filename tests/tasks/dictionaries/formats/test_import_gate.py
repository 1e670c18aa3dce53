"""The gate: a dictionary that is used as it was made passes; every way to misread it is caught and named."""

from collections.abc import Callable

import pytest
import torch

from catalog.errors import UserError
from tasks.dictionaries.formats.foreign import Foreign
from tasks.dictionaries.formats.reading import ReadingConfig
from tasks.dictionaries.import_gate import Certificate, GateConfig, examine, refuse_unverified
from tasks.dictionaries.import_sample import Place, Sample

PLACE = Place.of(("blocks.1.resid_post",))
CONFIG = GateConfig(n_tokens=2_000, n_quick_tokens=1_000)


def gate(foreign: Foreign, sample: Sample, place: Place = PLACE, **reading: object) -> Certificate:
    return examine(foreign, ReadingConfig(**reading), place, sample, CONFIG)


@pytest.mark.parametrize(("architecture", "d_sae"), [("topk", 512), ("topk", 128), ("batch_topk", 256)])
def test_a_dictionary_as_it_was_made_is_verified(
    architecture: str, d_sae: int, trained: Callable[..., Foreign], sample: Sample
) -> None:
    certificate = gate(trained(architecture, d_sae), sample)
    assert certificate.verified, certificate
    assert certificate.figures.fvu < 0.5
    assert certificate.random_fvu is not None
    assert certificate.figures.fvu < certificate.random_fvu
    assert 1 <= certificate.figures.l0 <= 12
    refuse_unverified(trained(architecture, d_sae), certificate)
